/**
 * A directory of our own that keeps what was fetched and learned across restarts: CRLs, OCSP responses, intermediates.
 * Begin with `openCacheDirectory`.
 *
 * A file is verified after it is read as if it came from the network. That only we may write to the directory prevents an
 * attacker from removing files, and from putting old ones back.
 */
import { randomUUID } from 'node:crypto'
import { lstat, readdir, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { InvalidOptionsError } from '../errors.ts'
import { isOwn, prepareOwnDirectory, readRegular } from '../files/read.ts'
import { replaceFile } from '../files/write.ts'

export interface DirectoryOptions {
  /** The option with the path, for messages: `clientCertificates.dir`. */
  readonly option: string
  readonly warn: (message: string) => void
  /** Bytes of one file; 128 MiB by default, as for a CRL. */
  readonly largest?: number
  /** Bytes of all files; 1 GiB by default. */
  readonly most?: number
}

export interface KeptFile {
  readonly bytes: Buffer
  /** Milliseconds since the epoch. */
  readonly writtenAt: number
}

const LARGEST = 128 * 1024 * 1024
const MOST = 1024 * 1024 * 1024

/** Bytes. The size of a file is rounded up to blocks. */
const BLOCK = 4096

/** Milliseconds after which an unfinished temporary file counts as left behind by a process that has ended. */
const ABANDONED = 60 * 60_000

/** File names are made of kinds and hashes: never a path, and no difference on case-insensitive file systems. */
const NAME = /^[a-z\d][a-z\d-]{0,99}(?:\.[a-z\d]{1,8})?$/
const TEMPORARY = /^\.[\da-f-]{36}$/

/** Only the owner may read and write a file. */
const OWNER_FILE = 0o600

/**
 * Opens a directory, and creates it where it is missing: with mode 0700, for files with mode 0600.
 *
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for a symbolic link, a directory of another user, anything that is not a
 * directory, and where it cannot be created
 */
export async function openCacheDirectory (dir: string, options: DirectoryOptions): Promise<CacheDirectory> {
  const path = resolve(dir)
  try {
    await prepareOwnDirectory(path)
    return new CacheDirectory(path, await sizesIn(path), options)
  } catch (cause) {
    throw new InvalidOptionsError(`${options.option}: ${path} cannot be used: ${(cause as Error).message}`, { cause })
  }
}

/** No method throws for a problem with files: the first one is logged as a warning, and again only after a success. */
export class CacheDirectory {
  readonly #dir: string
  readonly #warn: (message: string) => void
  readonly #largest: number
  readonly #most: number
  /** Sizes by file name. What other processes write is not counted. */
  readonly #sizes: Map<string, number>
  /** The last change: changes run one after the other. */
  #last: Promise<void> = Promise.resolve()
  #isFailing = false

  constructor (dir: string, sizes: Map<string, number>, { warn, largest = LARGEST, most = MOST }: DirectoryOptions) {
    this.#dir = dir
    this.#sizes = sizes
    this.#warn = warn
    this.#largest = largest
    this.#most = most
  }

  /** Undefined where the file is missing or cannot be read. */
  async read (name: string): Promise<KeptFile | undefined> {
    const path = this.#pathOf(name)
    try {
      const { bytes, owner, modified } = await readRegular(path, this.#largest)
      if (!isOwn(owner)) throw new Error('it belongs to another user')
      return { bytes, writtenAt: modified }
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      if (code !== 'ENOENT') this.#warn(`${path} is not used: ${message}`)
      return undefined
    }
  }

  /** Replaces a file atomically, or leaves it as it is. */
  async write (name: string, bytes: Buffer): Promise<void> {
    const path = this.#pathOf(name)
    await this.#change(`${path} cannot be written, and will be missing after a restart`, async () => {
      if (bytes.length > this.#largest) throw new Error(`it has more than ${this.#largest} bytes`)
      const size = sizeOf(bytes.length)
      const others = [...this.#sizes].reduce((sum, [other, size]) => other === name ? sum : sum + size, 0)
      if (others + size > this.#most) throw new Error(`there would be more than ${this.#most} bytes in the directory`)
      await replaceFile(path, bytes, { temporary: join(this.#dir, `.${randomUUID()}`), mode: OWNER_FILE })
      this.#sizes.set(name, size)
    })
  }

  /** The names of all files. */
  async list (): Promise<string[]> {
    try {
      return (await readdir(this.#dir)).filter((name) => NAME.test(name))
    } catch (error) {
      this.#warn(`${this.#dir} cannot be read: ${(error as Error).message}`)
      return []
    }
  }

  async remove (name: string): Promise<void> {
    const path = this.#pathOf(name)
    await this.#change(`${path} cannot be removed`, async () => {
      await rm(path, { force: true })
      this.#sizes.delete(name)
    })
  }

  #pathOf (name: string): string {
    if (!NAME.test(name)) throw new RangeError(`'${name}' is no name of a file`)
    return join(this.#dir, name)
  }

  async #change (failed: string, work: () => Promise<void>): Promise<void> {
    this.#last = this.#last.then(work).then(() => {
      this.#isFailing = false
    }, (error: Error) => {
      if (!this.#isFailing) this.#warn(`${failed}: ${error.message}`)
      this.#isFailing = true
    })
    await this.#last
  }
}

/** Sizes by name. Removes temporary files that a process left behind when it ended. */
async function sizesIn (dir: string): Promise<Map<string, number>> {
  const sizes = new Map<string, number>()
  for (const name of await readdir(dir)) {
    if (!NAME.test(name) && !TEMPORARY.test(name)) continue
    const path = join(dir, name)
    const info = await lstat(path).catch(() => undefined)
    if (info === undefined) continue // another process has removed it
    if (NAME.test(name)) sizes.set(name, sizeOf(info.size))
    else if (info.mtimeMs < Date.now() - ABANDONED) await rm(path, { force: true })
  }
  return sizes
}

function sizeOf (bytes: number): number {
  return Math.ceil(bytes / BLOCK) * BLOCK
}
