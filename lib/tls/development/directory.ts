/**
 * The directory of the development certificates: reading and writing the files (`readSet`, `writeSet`).
 */
import { lstat, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { isOwn, prepareOwnDirectory, readRegular, unless } from '../../files/read.ts'
import { type CertificateSet, type ClientPair, clientsNamedBy } from './certificate-set.ts'

/** File modes: of what only the owner may read, and of the rest. */
const OWNER_FILE = 0o600
const ANYONE_FILE = 0o644

/** Bytes. A certificate for thousands of hosts is smaller. */
const LARGEST = 1024 * 1024
/** How many other files of the directory are read, and how many bytes of each: more than any key has. */
const MOST_OTHER_FILES = 100
const LARGEST_OTHER_FILE = 64 * 1024

/** The files of a client of the option `clients`, as absolute paths. */
export interface DevelopmentClientFiles {
  /** `client-acme.pem` */
  readonly cert: string
  /** `client-acme.key`, mode 0600. */
  readonly key: string
  /** `client-acme.p12`, mode 0600: certificate and key as PKCS #12 (RFC 7292). */
  readonly p12: string
}

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
  /** Those of each client of the option `clients`, by its name. */
  readonly clients: Readonly<Record<string, DevelopmentClientFiles>>
}

/** The path of each file in a directory. */
export const filesIn = (dir: string, clients: readonly string[]): DevelopmentFiles => Object.freeze({
  ca: join(dir, 'ca.pem'),
  serverCert: join(dir, 'server.pem'),
  serverKey: join(dir, 'server.key'),
  clientCert: join(dir, 'client.pem'),
  clientKey: join(dir, 'client.key'),
  clientP12: join(dir, 'client.p12'),
  clients: byName(clients, (name) => filesOfClient(dir, name))
})

const filesOfClient = (dir: string, name: string): DevelopmentClientFiles => Object.freeze({
  cert: join(dir, `client-${name}.pem`),
  key: join(dir, `client-${name}.key`),
  p12: join(dir, `client-${name}.p12`)
})

/** A frozen object that has these names and no others: a client may be called `constructor`. */
export function byName<Value> (names: Iterable<string>, valueOf: (name: string) => Value): Readonly<Record<string, Value>> {
  const values: Record<string, Value> = Object.create(null)
  for (const name of names) values[name] = valueOf(name)
  return Object.freeze(values)
}

/** All of these paths. */
const pathsIn = ({ clients, ...files }: DevelopmentFiles): string[] =>
  [...Object.values(files), ...Object.values(clients).flatMap((client) => Object.values(client) as string[])]

/**
 * Creates the directory, readable by its owner only and ignored by git, or checks the one that exists. If other users
 * could write to it, they may have planted files: then `ca.pem` is removed, so that nothing in it is used.
 *
 * @throws Error if another user could decide where the keys are written: a symbolic link, no directory, or another
 * user's directory
 */
export async function prepareDirectory (dir: string): Promise<void> {
  if (await prepareOwnDirectory(dir)) await rm(filesIn(dir, []).ca, { force: true })
  // Written before any key, and only if there is none: `git add` must never see a key
  await writeFile(join(dir, '.gitignore'), '*\n', { flag: 'wx', mode: ANYONE_FILE }).catch(unless('EEXIST'))
}

/** Windows has no owners and file modes of this kind. */
const hasRights = process.getuid !== undefined

/**
 * Reads the set, valid or not. Undefined if a file is missing, if another user may write it, or if it is private and
 * another user may read it.
 */
export async function readSet (dir: string, clients: readonly string[]): Promise<CertificateSet | undefined> {
  const files = filesIn(dir, clients)
  const text = async (path: string, rights: number): Promise<string> => (await readOwn(path, rights)).toString()
  const client = async ({ cert, key, p12 }: DevelopmentClientFiles): Promise<ClientPair> =>
    ({ cert: await text(cert, ANYONE_FILE), key: await text(key, OWNER_FILE), p12: await readOwn(p12, OWNER_FILE) })
  const named = new Map<string, ClientPair>()
  try {
    for (const name of clients) named.set(name, await client(files.clients[name]!))
    return {
      ca: await text(files.ca, ANYONE_FILE),
      server: { cert: await text(files.serverCert, ANYONE_FILE), key: await text(files.serverKey, OWNER_FILE) },
      client: await client({ cert: files.clientCert, key: files.clientKey, p12: files.clientP12 }),
      clients: named
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
export async function readOthers (dir: string, clients: readonly string[]): Promise<readonly Buffer[]> {
  const own = pathsIn(filesIn(dir, clients)).map((path) => basename(path))
  const others = (await readdir(dir)).filter((name) => !own.includes(name)).slice(0, MOST_OTHER_FILES)
  const contents = await Promise.all(others.map(async (name) => await readRegular(join(dir, name), LARGEST_OTHER_FILE, false).catch(() => undefined)))
  return contents.flatMap((file) => file?.bytes ?? [])
}

/**
 * Replaces all files. Each file appears complete. A reader recognises a half-replaced set: its parts do not belong
 * together. Files of clients that the set before was made for, and this one is not, are removed.
 *
 * @param staging from `withLock`, on the same file system, so that renaming is atomic
 * @returns whether there was a set before, valid or not
 */
export async function writeSet (dir: string, staging: string, { ca, server, client, clients }: CertificateSet): Promise<boolean> {
  const names = [...clients.keys()]
  const from = filesIn(staging, names)
  const writeClient = async (files: DevelopmentClientFiles, { cert, key, p12 }: ClientPair): Promise<void> => {
    await writeFile(files.cert, cert, { mode: ANYONE_FILE })
    await writeFile(files.key, key, { mode: OWNER_FILE })
    await writeFile(files.p12, p12, { mode: OWNER_FILE })
  }
  await writeFile(from.ca, ca, { mode: ANYONE_FILE })
  await writeFile(from.serverCert, server.cert, { mode: ANYONE_FILE })
  await writeFile(from.serverKey, server.key, { mode: OWNER_FILE })
  await writeClient({ cert: from.clientCert, key: from.clientKey, p12: from.clientP12 }, client)
  for (const [name, pair] of clients) await writeClient(from.clients[name]!, pair)

  const { ca: caBefore, serverCert } = filesIn(dir, [])
  const isReplaced = await isThere(caBefore) || await isThere(serverCert)
  // Before the CA that names them is replaced: should this process die in between, the next one does it.
  for (const name of await readOwn(caBefore, ANYONE_FILE).then((bytes) => clientsNamedBy(bytes.toString()), () => [])) {
    if (!clients.has(name)) for (const path of Object.values(filesOfClient(dir, name))) await rm(path, { force: true })
  }
  for (const path of pathsIn(from)) await rename(path, join(dir, basename(path)))
  return isReplaced
}

const isThere = (path: string): Promise<boolean> => lstat(path).then(() => true, () => false)
