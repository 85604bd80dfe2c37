/**
 * The directory of the option `dir`: account key, certificate, and what is under way. Begin with `Store.open`; only
 * whoever has the lock (`Store.locked`) may write.
 *
 * One file has certificate and key: whoever reads it has two that belong together.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { readdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { InvalidOptionsError } from '../errors.ts'
import { withLock } from '../files/lock.ts'
import { blocksIn, certificatesIn, pemOf } from '../files/pem.ts'
import { isOwn, prepareOwnDirectory, readRegular, unless } from '../files/read.ts'
import { replaceFile } from '../files/write.ts'
import { alternativeNamesOf } from '../x509/general-names.ts'
import { validityOf } from '../x509/fields.ts'
import type { ResolvedAcmeOptions } from './options.ts'

/** A certificate that was obtained, with its chain and key. */
export interface Obtained {
  /** The chain in PEM, leaf first. */
  readonly cert: string
  readonly key: string
  readonly leaf: X509Certificate
  /** DNS names in lower case, sorted. */
  readonly domains: readonly string[]
}

export interface Account {
  readonly key: KeyObject
  /** Undefined until it is registered. */
  readonly url: string | undefined
}

/** An order that is under way, and why the last ones have failed. */
export interface Progress {
  readonly url: string | undefined
  /** Of the certificate that is ordered, in PEM. */
  readonly key: string | undefined
  /** How many orders were refused since the last certificate. */
  readonly failures: number
  /** No order before this time, in milliseconds since the epoch. */
  readonly notBefore: number
  /** Why, where it was refused. */
  readonly reason: string | undefined
}

/** A challenge that the CA may ask for at present. */
export interface PendingChallenge {
  readonly host: string
  readonly token: string
  /** The answer (RFC 8555 §8.1). */
  readonly keyAuthorization: string
  /** In milliseconds since the epoch. */
  readonly until: number
}

/** What only whoever has the lock may do. Each rejects once the lock was taken away. */
export interface Writer {
  saveAccount (account: Account): Promise<void>
  saveProgress (progress: Progress): Promise<void>
  saveChallenges (challenges: readonly PendingChallenge[]): Promise<void>
  saveCertificate (obtained: Pick<Obtained, 'cert' | 'key'>): Promise<void>
}

export const NO_PROGRESS: Progress = Object.freeze({ url: undefined, key: undefined, failures: 0, notBefore: 0, reason: undefined })

/** Only the owner may read and write a file. */
const OWNER_FILE = 0o600
/** Bytes: more than a certificate for a hundred names with its chain has. */
const LARGEST = 1024 * 1024
/** Milliseconds between two looks at a lock that another process may have for minutes. */
const LOCK_PAUSE = 500

export class Store {
  readonly #dir: string
  /** Of certificates of this CA. */
  readonly #prefix: string
  readonly #names: { readonly account: string, readonly certificate: string, readonly progress: string, readonly challenges: string, readonly lock: string }

  /**
   * Creates the directory where it is missing.
   *
   * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for what is no directory of this user alone
   */
  static async open ({ dir, ids }: Pick<ResolvedAcmeOptions, 'dir' | 'ids'>): Promise<Store> {
    try {
      if (await prepareOwnDirectory(dir)) throw new Error('others could write to it, and may have left files there: remove it, or give another one')
      return new Store(dir, ids)
    } catch (cause) {
      throw new InvalidOptionsError(`options of acme: dir: ${dir} cannot be used: ${(cause as Error).message}`, { cause })
    }
  }

  constructor (dir: string, { ca, certificate }: ResolvedAcmeOptions['ids']) {
    this.#dir = dir
    this.#prefix = `certificate-${ca}-`
    this.#names = {
      account: `account-${ca}.json`,
      certificate: `${this.#prefix}${certificate}.pem`,
      progress: `order-${ca}-${certificate}.json`,
      challenges: `challenges-${ca}-${certificate}.json`,
      lock: `lock-${ca}`
    }
  }

  /** What changes for all processes: absolute paths. */
  get watched (): readonly string[] {
    return [this.#names.certificate, this.#names.challenges].map((name) => join(this.#dir, name))
  }

  /** Undefined where there is none. */
  async certificate (): Promise<Obtained | undefined> {
    return await this.#read(this.#names.certificate, parseObtained)
  }

  /**
   * Of the certificates that this CA has issued for other options, the one that covers most of these names and ends last: better
   * than none while the first one with a further name is not there.
   */
  async stopgap (domains: readonly string[]): Promise<Obtained | undefined> {
    const names = (await readdir(this.#dir)).filter((name) => name.startsWith(this.#prefix) && name.endsWith('.pem') && name !== this.#names.certificate)
    const found = await Promise.all(names.map(async (name) => await this.#read(name, parseObtained).catch(() => undefined)))
    const coverage = (obtained: Obtained): number => domains.filter((domain) => obtained.domains.includes(domain)).length
    return found.filter((each) => each !== undefined && isCurrent(each) && coverage(each) > 0)
      .sort((a, b) => coverage(b!) - coverage(a!) || validityOf(b!.leaf).notAfter - validityOf(a!.leaf).notAfter)[0]
  }

  async account (): Promise<Account | undefined> {
    return await this.#read(this.#names.account, (bytes) => {
      const { key, url } = JSON.parse(bytes.toString()) as { key: string, url?: string }
      return { key: createPrivateKey(key), url }
    })
  }

  async progress (): Promise<Progress> {
    return await this.#read(this.#names.progress, (bytes) => ({ ...NO_PROGRESS, ...JSON.parse(bytes.toString()) as Progress })) ?? NO_PROGRESS
  }

  async challenges (): Promise<readonly PendingChallenge[]> {
    return await this.#read(this.#names.challenges, (bytes) => JSON.parse(bytes.toString()) as PendingChallenge[]) ?? []
  }

  /**
   * Does `work` while no other process does any for this CA.
   *
   * @param signal ends the waiting
   */
  async locked<Result> (work: (writer: Writer) => Promise<Result>, signal: AbortSignal): Promise<Result> {
    return await withLock(join(this.#dir, this.#names.lock), async (staging) => {
      const { account, certificate, progress, challenges } = this.#names
      const write = async (name: string, text: string): Promise<void> => {
        await replaceFile(join(this.#dir, name), Buffer.from(text), { temporary: join(staging, name), mode: OWNER_FILE })
      }
      // Renamed to where it is removed with the lock: without the lock, there is no such place.
      const remove = async (name: string): Promise<void> => {
        await rename(join(this.#dir, name), join(staging, `${name}.old`)).catch(unless('ENOENT'))
      }
      return await work({
        saveAccount: async ({ key, url }) => await write(account, JSON.stringify({ url, key: key.export({ type: 'pkcs8', format: 'pem' }) })),
        saveProgress: async (state) => await write(progress, JSON.stringify(state)),
        saveChallenges: async (pending) => { await (pending.length === 0 ? remove(challenges) : write(challenges, JSON.stringify(pending))) },
        saveCertificate: async ({ cert, key }) => await write(certificate, key + cert)
      })
    }, { pause: LOCK_PAUSE, signal })
  }

  /** @throws Error with the name of a file that cannot be used */
  async #read<Value> (name: string, parse: (bytes: Buffer) => Value): Promise<Value | undefined> {
    const path = join(this.#dir, name)
    try {
      const file = await readRegular(path, LARGEST, false).catch(unless('ENOENT'))
      if (file === undefined) return undefined
      if (!isOwn(file.owner)) throw new Error('it belongs to another user')
      return parse(file.bytes)
    } catch (cause) {
      // Not what JSON.parse says, which has a part of the text.
      const reason = cause instanceof SyntaxError ? 'it is no JSON' : (cause as Error).message
      throw new Error(`${path} cannot be used: ${reason}`, cause instanceof SyntaxError ? undefined : { cause })
    }
  }
}

/**
 * A private key and a chain as they are kept, or as they came from the CA.
 *
 * @throws Error where they do not belong together
 */
export function parseObtained (bytes: Buffer): Obtained {
  const content = { name: 'the certificate', bytes }
  const key = blocksIn(content).find(({ label }) => label === 'PRIVATE KEY')
  const chain = certificatesIn(content)
  if (key === undefined || !chain[0]!.checkPrivateKey(createPrivateKey(key.text))) throw new Error('the certificate is for another key')
  if (Object.values(validityOf(chain[0]!)).some(Number.isNaN)) throw new Error('the dates of the certificate cannot be read')
  return {
    cert: chain.map(({ raw }) => pemOf('CERTIFICATE', raw)).join(''),
    key: `${key.text}\n`,
    leaf: chain[0]!,
    domains: alternativeNamesOf(chain[0]!).filter(({ kind }) => kind === 'DNS').map(({ value }) => value.toLowerCase()).sort()
  }
}

/** Whether it can be served now (RFC 5280 §4.1.2.5). */
export function isCurrent ({ leaf }: Obtained, now = Date.now()): boolean {
  const { notBefore, notAfter } = validityOf(leaf)
  return notBefore <= now && now <= notAfter
}
