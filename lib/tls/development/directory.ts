/** Where development certificates are kept, and how several processes share them. */
import { randomUUID } from 'node:crypto'
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import type { CertificateSet } from './set.ts'

/** Rights of the directory and of what only its owner may read. */
const OWNER_DIRECTORY = 0o700
const OWNER_FILE = 0o600
const ANYONE_FILE = 0o644

/** Milliseconds. Files are moved within a few: a claim this old was left by a process that died. */
const ABANDONED = 10_000
const RETRY = 20

/** The files, as absolute paths. */
export interface DevelopmentFiles {
  readonly ca: string
  readonly serverCert: string
  readonly serverKey: string
  readonly clientCert: string
  readonly clientKey: string
  readonly clientP12: string
}

/** Where in a directory each file lies. */
export const filesIn = (dir: string): DevelopmentFiles => Object.freeze({
  ca: join(dir, 'ca.pem'),
  serverCert: join(dir, 'server.pem'),
  serverKey: join(dir, 'server.key'),
  clientCert: join(dir, 'client.pem'),
  clientKey: join(dir, 'client.key'),
  clientP12: join(dir, 'client.p12')
})

/** What is there, good or not; undefined when any of it is missing or unreadable. */
export async function readSet (dir: string): Promise<CertificateSet | undefined> {
  const { ca, serverCert, serverKey, clientCert, clientKey, clientP12 } = filesIn(dir)
  try {
    return {
      ca: await readFile(ca, 'utf8'),
      server: { cert: await readFile(serverCert, 'utf8'), key: await readFile(serverKey, 'utf8') },
      client: { cert: await readFile(clientCert, 'utf8'), key: await readFile(clientKey, 'utf8'), p12: await readFile(clientP12) }
    }
  } catch {
    return undefined
  }
}

/**
 * Replaces all files. Each appears whole, and readers tell a half-replaced set by its parts not belonging together.
 *
 * @param staging - from `claim`, on the same file system, so that renaming is atomic
 */
export async function writeSet (dir: string, staging: string, { ca, server, client }: CertificateSet): Promise<void> {
  // First of all, and only if there is none: keys must never be in reach of `git add`
  await writeFile(join(dir, '.gitignore'), '*\n', { flag: 'wx', mode: ANYONE_FILE }).catch(unless('EEXIST'))
  const to = filesIn(dir)
  const from = filesIn(staging)
  await writeFile(from.ca, ca, { mode: ANYONE_FILE })
  await writeFile(from.serverCert, server.cert, { mode: ANYONE_FILE })
  await writeFile(from.serverKey, server.key, { mode: OWNER_FILE })
  await writeFile(from.clientCert, client.cert, { mode: ANYONE_FILE })
  await writeFile(from.clientKey, client.key, { mode: OWNER_FILE })
  await writeFile(from.clientP12, client.p12, { mode: OWNER_FILE })
  for (const name of Object.keys(to) as Array<keyof DevelopmentFiles>) await rename(from[name], to[name])
}

/**
 * Does `work` while no other process does: whoever makes the directory `.new` has the claim, and stages files in it.
 */
export async function claim<Result> (dir: string, work: (staging: string) => Promise<Result>): Promise<Result> {
  const staging = join(dir, '.new')
  while (!await isMade(staging)) {
    await evict(staging)
    await setTimeout(RETRY)
  }
  try {
    return await work(staging)
  } finally {
    await rm(staging, { recursive: true, force: true })
  }
}

const isMade = (path: string): Promise<true | undefined> =>
  mkdir(path, { mode: OWNER_DIRECTORY }).then(() => true as const).catch(unless('EEXIST'))

/** Removes a claim that a dead process left. Renamed first: of several processes that see it, one succeeds. */
export async function evict (staging: string): Promise<void> {
  const info = await stat(staging).catch(unless('ENOENT'))
  if (info === undefined || Date.now() - info.mtimeMs < ABANDONED) return
  const abandoned = `${staging}-${randomUUID()}`
  await rename(staging, abandoned).catch(unless('ENOENT'))
  await rm(abandoned, { recursive: true, force: true })
}

/** Lets one expected failure pass. */
const unless = (code: string) => (error: NodeJS.ErrnoException): undefined => {
  if (error.code !== code) throw error
}
