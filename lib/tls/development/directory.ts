/**
 * The directory of the development certificates: reading and writing the files (`readSet`, `writeSet`).
 */
import { readdir, rename, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { isOwn, prepareOwnDirectory, readRegular, unless } from '../../files/read.ts'
import type { CertificateSet } from './certificate-set.ts'

/** File modes: of what only the owner may read, and of the rest. */
const OWNER_FILE = 0o600
const ANYONE_FILE = 0o644

/** Bytes. A certificate for thousands of hosts is smaller. */
const LARGEST = 1024 * 1024
/** How many other files of the directory are read, and how many bytes of each: more than any key has. */
const MOST_OTHER_FILES = 100
const LARGEST_OTHER_FILE = 64 * 1024

/** The files of the development certificates, as absolute paths. Certificates and keys are in PEM. */
export interface DevelopmentFiles {
  /** `ca.pem`: the CA that clients have to trust. */
  readonly ca: string
  /** `server.pem` */
  readonly serverCert: string
  /** `server.key`, mode 0600. */
  readonly serverKey: string
  /** `client.pem` */
  readonly clientCert: string
  /** `client.key`, mode 0600. */
  readonly clientKey: string
  /** `client.p12`, mode 0600: certificate and key of the client as PKCS #12 (RFC 7292). */
  readonly clientP12: string
}

/** The path of each file in a directory. */
export const filesIn = (dir: string): DevelopmentFiles => Object.freeze({
  ca: join(dir, 'ca.pem'),
  serverCert: join(dir, 'server.pem'),
  serverKey: join(dir, 'server.key'),
  clientCert: join(dir, 'client.pem'),
  clientKey: join(dir, 'client.key'),
  clientP12: join(dir, 'client.p12')
})

/**
 * Creates the directory, readable by its owner only and ignored by git, or checks the one that exists. If other users
 * could write to it, they may have planted files: then `ca.pem` is removed, so that nothing in it is used.
 *
 * @throws Error if another user could decide where the keys are written: a symbolic link, no directory, or another
 * user's directory
 */
export async function prepareDirectory (dir: string): Promise<void> {
  if (await prepareOwnDirectory(dir)) await rm(filesIn(dir).ca, { force: true })
  // Written before any key, and only if there is none: `git add` must never see a key
  await writeFile(join(dir, '.gitignore'), '*\n', { flag: 'wx', mode: ANYONE_FILE }).catch(unless('EEXIST'))
}

/** Windows has no owners and file modes of this kind. */
const hasRights = process.getuid !== undefined

/**
 * Reads the set, valid or not. Undefined if a file is missing, if another user may write it, or if it is private and
 * another user may read it.
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

/** Reads a file of this user. Symbolic links are refused: their target is elsewhere, and may belong to another user. */
async function readOwn (path: string, rights: number): Promise<Buffer> {
  const { bytes, mode, owner } = await readRegular(path, LARGEST, false)
  if (hasRights && (!isOwn(owner) || (mode & 0o777 & ~rights) !== 0)) throw new Error('it is not the owner\'s alone')
  return bytes
}

/** The contents of other files in the directory, of some of them and as far as they can be read. */
export async function readOthers (dir: string): Promise<readonly Buffer[]> {
  const own = Object.values(filesIn(dir)).map((path) => basename(path))
  const others = (await readdir(dir)).filter((name) => !own.includes(name)).slice(0, MOST_OTHER_FILES)
  const contents = await Promise.all(others.map(async (name) => await readRegular(join(dir, name), LARGEST_OTHER_FILE, false).catch(() => undefined)))
  return contents.flatMap((file) => file?.bytes ?? [])
}

/**
 * Replaces all files. Each file appears complete. A reader recognises a half-replaced set: its parts do not belong
 * together.
 *
 * @param staging from `withLock`, on the same file system, so that renaming is atomic
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
