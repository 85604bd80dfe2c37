/**
 * Keeps what was fetched and learned across restarts, in a directory of our own: lists, OCSP answers, intermediates.
 *
 * Whoever reads a file verifies it as if it came from the network. That the directory is ours keeps others from taking files
 * away, and from putting old ones back.
 */
import { randomUUID } from 'node:crypto'
import { lstat, open, readdir, rename, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { InvalidOptionsError } from '../errors.ts'
import { isOwn, prepareOwnDirectory, readRegular } from '../files/read.ts'

export interface DirectoryOptions {
  /** What gives the path, for messages: `clientCertificates.dir`. */
  readonly option: string
  readonly warn: (message: string) => void
  /** Bytes of a file; 128 MiB, as of a list. */
  readonly largest?: number
  /** Bytes of all of them; 1 GiB. */
  readonly most?: number
}

export interface KeptFile {
  readonly bytes: Buffer
  /** Milliseconds since the epoch. */
  readonly writtenAt: number
}

const LARGEST = 128 * 1024 * 1024
const MOST = 1024 * 1024 * 1024

/** What a file takes at least, and the steps it grows by. */
const BLOCK = 4096

/** Milliseconds after which a file that is still being written was left by a process that has ended. */
const ABANDONED = 60 * 60_000

/** Names that are made of kinds and hashes: no path, and the same where case is no difference. */
const NAME = /^[a-z\d][a-z\d-]{0,99}(?:\.[a-z\d]{1,8})?$/
const TEMPORARY = /^\.[\da-f-]{36}$/

/** Rights of what only its owner may read. */
const OWNER_FILE = 0o600

/**
 * Opens a directory, and makes it if it is not there: of mode 0700, for files of 0600.
 *
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for a symbolic link, another user's directory, and what is none or cannot be made
 */
export async function openCacheDirectory (path: string, options: DirectoryOptions): Promise<CacheDirectory> {
  const dir = resolve(path)
  try {
    await prepareOwnDirectory(dir)
    return new CacheDirectory(dir, await sizesIn(dir), options)
  } catch (cause) {
    throw new InvalidOptionsError(`${options.option}: ${dir} cannot be used: ${(cause as Error).message}`, { cause })
  }
}

/** Nothing of it throws for what is wrong with files: a warning says so, once until it goes well again. */
export class CacheDirectory {
  readonly #dir: string
  readonly #warn: (message: string) => void
  readonly #largest: number
  readonly #most: number
  /** By name. What other processes write is not counted. */
  readonly #sizes: Map<string, number>
  /** Changes are made one after the other. */
  #last: Promise<void> = Promise.resolve()
  #isFailing = false

  constructor (dir: string, sizes: Map<string, number>, { warn, largest = LARGEST, most = MOST }: DirectoryOptions) {
    this.#dir = dir
    this.#sizes = sizes
    this.#warn = warn
    this.#largest = largest
    this.#most = most
  }

  /** Undefined where it is not there, or cannot be read. */
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

  /** Replaces a file whole, or leaves what is there. */
  async write (name: string, bytes: Buffer): Promise<void> {
    const path = this.#pathOf(name)
    await this.#change(`${path} cannot be written, and will be missing after a restart`, async () => {
      if (bytes.length > this.#largest) throw new Error(`it has more than ${this.#largest} bytes`)
      const size = sizeOf(bytes.length)
      const others = [...this.#sizes].reduce((sum, [other, size]) => other === name ? sum : sum + size, 0)
      if (others + size > this.#most) throw new Error(`there would be more than ${this.#most} bytes in the directory`)
      await this.#replace(path, bytes)
      this.#sizes.set(name, size)
    })
  }

  /** Names of what is there. */
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

  async #replace (path: string, bytes: Buffer): Promise<void> {
    const temporary = join(this.#dir, `.${randomUUID()}`)
    try {
      const file = await open(temporary, 'wx', OWNER_FILE)
      try {
        await file.writeFile(bytes)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(temporary, path)
    } catch (error) {
      await rm(temporary, { force: true })
      throw error
    }
  }
}

/** Sizes by name. What a process has left that ended while it wrote is removed. */
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
