/**
 * Writes the address of the repository, which is `repository` in package.json, wherever else it belongs: `homepage` and
 * `bugs` there, and the links of the README. Without an address, nothing changes. Run by `npm run address`.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The contents of package.json and README.md. */
export interface Documents { readonly manifest: string, readonly readme: string }

/** Of a target that is a path in the repository: neither a URL nor an anchor. */
const RELATIVE_LINK = /(?<=\]\()(?!https?:|#)([^)]+)(?=\))/g

/** Where the README's links lead in a repository, without what follows its path. */
export function addressOf (manifest: string): string | undefined {
  const { repository } = JSON.parse(manifest) as { repository?: string | { url: string } }
  const text = typeof repository === 'object' ? repository.url : repository
  const [, path] = /^(?:github:|(?:git\+)?https:\/\/github\.com\/)?([\w.-]+\/[\w.-]+?)(?:\.git)?$/.exec(text ?? '') ?? []
  if (text !== undefined && path === undefined) throw new Error(`repository: ${text} is not understood; write github:OWNER/NAME`)
  return path === undefined ? undefined : `https://github.com/${path}`
}

export function addressed (documents: Documents): Documents {
  const address = addressOf(documents.manifest)
  if (address === undefined) return documents
  const manifest = { ...JSON.parse(documents.manifest) as object, homepage: `${address}#readme`, bugs: `${address}/issues` }
  return {
    manifest: `${JSON.stringify(manifest, null, 2)}\n`,
    readme: documents.readme.replaceAll(RELATIVE_LINK, (path) => `${address}/blob/main/${path}`)
  }
}

/* c8 ignore start: by hand, on the repository itself */
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const paths = { manifest: new URL('../package.json', import.meta.url), readme: new URL('../README.md', import.meta.url) }
  const { manifest, readme } = addressed({ manifest: readFileSync(paths.manifest, 'utf8'), readme: readFileSync(paths.readme, 'utf8') })
  writeFileSync(paths.manifest, manifest)
  writeFileSync(paths.readme, readme)
}
/* c8 ignore stop */
