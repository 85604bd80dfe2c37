/** Where development certificates are kept, and how several processes share them. */
import { randomUUID } from 'node:crypto'
import type { Stats } from 'node:fs'
import { lstat, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { isOwn, prepareOwnDirectory, readRegular } from '../../files/read.ts'
import type { CertificateSet } from './certificate-set.ts'

/** Rights of the directory and of what only its owner may read. */
const OWNER_DIRECTORY = 0o700
const OWNER_FILE = 0o600
const ANYONE_FILE = 0o644

/** Bytes: a certificate for thousands of hosts has less. */
const LARGEST = 1024 * 1024
/** Of files that are not ours, in the directory, and bytes of each: more than any key has. */
const MOST_OTHERS = 100
const LARGEST_OTHER = 64 * 1024

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

/**
 * Makes the directory, readable by its owner only and out of git, or checks the one that is there. Where others could write,
 * they may have put there what they like: nothing of it is left to be believed.
 *
 * @throws Error when keys would end up where somebody else decided: behind a
 * symbolic link, in what is no directory, or in another user's
 */
export async function prepareDirectory (dir: string): Promise<void> {
  if (await prepareOwnDirectory(dir)) await rm(filesIn(dir).ca, { force: true })
  // Before any key, and only if there is none: keys must never be in reach of `git add`
  await writeFile(join(dir, '.gitignore'), '*\n', { flag: 'wx', mode: ANYONE_FILE }).catch(unless('EEXIST'))
}

/** Windows has neither owners nor rights of this kind. */
const hasRights = process.getuid !== undefined

/**
 * What is there, good or not; undefined when any of it is missing, not ours alone to write, or, of what is private, not ours
 * alone to read.
 */
export async function readSet (dir: string): Promise<CertificateSet | undefined> {
  const { ca, serverCert, serverKey, clientCert, clientKey, clientP12 } = filesIn(dir)
  const text = async (path: string, rights: number): Promise<string> => (await readOwn(path, rights)).toString()
  try {
    return {
      ca: await text(ca, ANYONE_FILE),
      server: { cert: await text(serverCert, ANYONE_FILE), key: await text(serverKey, OWNER_FILE) },
      client: { cert: await text(clientCert, ANYONE_FILE), key: await text(clientKey, OWNER_FILE), p12: await readOwn(clientP12, OWNER_FILE) }
    }
  } catch {
    return undefined
  }
}

/** No symbolic link either: what it leads to is somewhere else, and of others. */
async function readOwn (path: string, rights: number): Promise<Buffer> {
  const { bytes, mode, owner } = await readRegular(path, LARGEST, false)
  if (hasRights && (!isOwn(owner) || (mode & 0o777 & ~rights) !== 0)) throw new Error('it is not the owner\'s alone')
  return bytes
}

/** What else is there: some of the files that others have put there, as far as they can be read. */
export async function readOthers (dir: string): Promise<readonly Buffer[]> {
  const own = Object.values(filesIn(dir)).map((path) => basename(path))
  const others = (await readdir(dir)).filter((name) => !own.includes(name)).slice(0, MOST_OTHERS)
  const contents = await Promise.all(others.map(async (name) => await readRegular(join(dir, name), LARGEST_OTHER, false).catch(() => undefined)))
  return contents.flatMap((file) => file?.bytes ?? [])
}

/**
 * Replaces all files. Each appears whole, and readers tell a half-replaced set by its parts not belonging together.
 *
 * @param staging - from `claim`, on the same file system, so that renaming is atomic
 */
export async function writeSet (dir: string, staging: string, { ca, server, client }: CertificateSet): Promise<void> {
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
  let waitsFor: { readonly claim: string, readonly since: number } | undefined
  while (!await isMade(staging)) {
    const info = await lstat(staging).catch(unless('ENOENT'))
    if (info !== undefined) {
      // By the time that it was seen: clocks may be wrong
      const claim = `${info.ino} ${info.birthtimeMs}`
      if (waitsFor?.claim !== claim) waitsFor = { claim, since: performance.now() }
      if (isAbandoned(info, performance.now() - waitsFor.since)) await evict(staging)
    }
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

/** What is no directory (a link that leads nowhere, a named pipe) was never a claim; one of the future is none of a process that lives. */
function isAbandoned (info: Stats, waited: number): boolean {
  return !info.isDirectory() || Math.abs(Date.now() - info.mtimeMs) >= ABANDONED || waited >= ABANDONED
}

/** Removes a claim that a dead process left. Renamed first: of several processes that see it, one succeeds. */
export async function evict (staging: string): Promise<void> {
  const abandoned = `${staging}-${randomUUID()}`
  await rename(staging, abandoned).catch(unless('ENOENT'))
  await rm(abandoned, { recursive: true, force: true })
}

/** Lets one expected failure pass. */
const unless = (code: string) => (error: NodeJS.ErrnoException): undefined => {
  if (error.code !== code) throw error
}
