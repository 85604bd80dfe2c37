/**
 * One order, from the account to the certificate (RFC 8555 §7.4). Begin with `obtain`. Each step is written down before the
 * next one, so that another process can go on with it.
 */
import { createPrivateKey, generateKeyPair, type KeyObject } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { reasonOf } from '../files/watch.ts'
import { certificateRequest } from '../x509/certificate-request.ts'
import type { Challenges } from './challenges.ts'
import { type AcmeClient, AcmeProblem, digest, type Order } from './client.ts'
import type { DnsRecords, ResolvedAcmeOptions } from './options.ts'
import { certificateId } from './renewal.ts'
import { type Obtained, parseObtained, type Progress, type Store, type Writer } from './store.ts'

interface Ordering {
  readonly options: ResolvedAcmeOptions
  readonly client: AcmeClient
  readonly store: Store
  readonly writer: Writer
  readonly challenges: Challenges
  /** What is renewed. */
  readonly before: Obtained | undefined
  readonly warn: (message: string) => void
  readonly signal: AbortSignal
}

/** A challenge that proves that a host is ours. */
interface Proof {
  readonly authorization: string
  readonly host: string
  readonly url: string
  readonly isAsked: boolean
  readonly token: string
  readonly keyAuthorization: string
}

/** Milliseconds within which all processes have read of pending challenges: they look four times a second, see `watchFiles`. */
const SHARED_WITHIN = 1_000
/** Milliseconds for which a challenge is answered if nobody ends it. */
const CHALLENGE_LIFE = 60 * 60_000
/** Milliseconds for each of the app's functions. */
const LONGEST_DNS = 10 * 60_000

/**
 * Obtains a certificate, and writes it down. Goes on with an order that is under way.
 *
 * @throws AcmeProblem, Error; without tokens
 */
export async function obtain (ordering: Ordering, progress: Progress): Promise<Obtained> {
  const { client, writer, options: { domains } } = ordering
  const { url, key, order } = await signedIn(ordering, async () => await resume(ordering, progress) ?? await begin(ordering, progress))
  const proofs = order.status === 'pending' ? await proofsFor(ordering, order) : []
  try {
    await prove(ordering, proofs)
    const { status, finalize } = await client.order(url, ({ status }) => status !== 'pending')
    if (status === 'ready') await client.finalize(finalize, certificateRequest(key, domains))
    const { certificate, problem } = await client.order(url, ({ status }) => status === 'valid' || status === 'invalid')
    if (certificate === undefined) throw problem ?? new AcmeProblem({ detail: 'the order has become invalid' }, 0)
    const obtained = checked(`${pemOf(key)}${await client.download(certificate)}`, domains)
    await writer.saveCertificate(obtained)
    return obtained
  } catch (error) {
    const { message } = error as Error
    const secrets = proofs.flatMap(({ token, keyAuthorization }) => [keyAuthorization, token])
    throw Object.assign(error as Error, { message: secrets.reduce((text, secret) => text.replaceAll(secret, '…'), message) })
  }
}

/** What came from the CA is not stored unchecked: it would be looked at again only when it ends. */
function checked (text: string, domains: readonly string[]): Obtained {
  try {
    const obtained = parseObtained(Buffer.from(text))
    // Some CAs add names.
    const missing = domains.filter((domain) => !obtained.domains.includes(domain))
    if (missing.length > 0) throw new Error(`the certificate is not for ${missing.join(', ')}`)
    return obtained
  } catch (error) {
    throw new AcmeProblem({ detail: (error as Error).message }, 0)
  }
}

/** Does `work` as the account that is written down, or as a new one. */
async function signedIn<Result> ({ client, store, writer, options: { email, binding } }: Ordering, work: () => Promise<Result>): Promise<Result> {
  const known = await store.account()
  const key = known?.key ?? await newKey('ecdsa')
  const register = async (): Promise<void> => { await writer.saveAccount({ key, url: await client.register(email, binding) }) }
  client.use(key, known?.url)
  // First the key: CAs limit how many accounts there are, and one whose key is lost is of no use.
  if (known === undefined) await writer.saveAccount({ key, url: undefined })
  if (known?.url === undefined) await register()
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof AcmeProblem && error.type === 'accountDoesNotExist')) throw error
    // The server has begun anew, as servers for tests do.
    client.use(key, undefined)
    await register()
    return await work()
  }
}

interface OpenOrder { readonly url: string, readonly key: KeyObject, readonly order: Order }

async function resume ({ client, before }: Ordering, { url, key }: Progress): Promise<OpenOrder | undefined> {
  // A process may have ended after it wrote down the certificate.
  if (url === undefined || key === undefined || key === before?.key) return undefined
  try {
    const order = await client.order(url)
    return order.status === 'invalid' ? undefined : { url, key: createPrivateKey(key), order }
  } catch (error) {
    if (isFinal(error) && (error as AcmeProblem).type !== 'accountDoesNotExist') return undefined
    throw error
  }
}

async function begin ({ client, writer, options: { domains, keyType }, before }: Ordering, progress: Progress): Promise<OpenOrder> {
  const key = await newKey(keyType)
  const replaces = before && certificateId(before.leaf)
  // RFC 9773 §5: it may be replaced already, or be of another account.
  const { url, order } = await client.newOrder(domains, replaces).catch(async (error: AcmeProblem) => {
    if (replaces === undefined || !isFinal(error) || error.type === 'accountDoesNotExist') throw error
    return await client.newOrder(domains, undefined)
  })
  await writer.saveProgress({ ...progress, url, key: pemOf(key) })
  return { url, key, order }
}

/** Whether the CA would give the same answer again, however long one waits. */
export function isFinal (error: unknown): boolean {
  return error instanceof AcmeProblem && error.status < 500 && error.type !== 'rateLimited'
}

async function newKey (type: ResolvedAcmeOptions['keyType']): Promise<KeyObject> {
  const { privateKey } = type === 'rsa' ? await promisify(generateKeyPair)('rsa', { modulusLength: 2048 }) : await promisify(generateKeyPair)('ec', { namedCurve: 'P-256' })
  return privateKey
}

function pemOf (key: KeyObject): string {
  return String(key.export({ type: 'pkcs8', format: 'pem' }))
}

// Challenges (RFC 8555 §7.5, §8)

/** For each authorization that is not valid yet. */
async function proofsFor ({ client, options: { dns, domains } }: Ordering, { authorizations }: Order): Promise<readonly Proof[]> {
  const wanted = dns === undefined ? 'http-01' : 'dns-01'
  const proofs: Proof[] = []
  for (const authorization of authorizations) {
    const { status, host, challenges } = await client.authorization(authorization)
    // Nobody is shown that other names are ours.
    if (!domains.includes(host) && !domains.includes(`*.${host}`)) throw new AcmeProblem({ detail: 'the CA asks for a name that was not ordered' }, 0, undefined, host)
    if (status === 'valid') continue
    const challenge = challenges.find(({ type, token }) => type === wanted && token !== '')
    if (challenge === undefined) throw new AcmeProblem({ detail: `the CA offers no challenge ${wanted}` }, 0, undefined, host)
    const { url, token } = challenge
    proofs.push({ authorization, host, url, isAsked: challenge.status !== 'pending', token, keyAuthorization: client.keyAuthorization(token) })
  }
  return proofs
}

async function prove (ordering: Ordering, proofs: readonly Proof[]): Promise<void> {
  if (proofs.length === 0) return
  const { dns } = ordering.options
  if (dns === undefined) await withAnswers(ordering, proofs, async () => await validate(ordering, proofs))
  else await withRecords(ordering, dns, proofs, async () => await validate(ordering, proofs))
}

/** For http-01: whichever process the CA asks knows the answers meanwhile. */
async function withAnswers ({ writer, challenges, signal }: Ordering, proofs: readonly Proof[], work: () => Promise<void>): Promise<void> {
  const until = Date.now() + CHALLENGE_LIFE
  const pending = proofs.map(({ host, token, keyAuthorization }) => ({ host, token, keyAuthorization, until }))
  try {
    challenges.set(pending)
    await writer.saveChallenges(pending)
    await delay(SHARED_WITHIN, undefined, { signal, ref: false })
    await work()
  } finally {
    challenges.set([])
    await writer.saveChallenges([])
  }
}

/** For dns-01. */
async function withRecords ({ warn, signal }: Ordering, dns: DnsRecords, proofs: readonly Proof[], work: () => Promise<void>): Promise<void> {
  const records = proofs.map(({ host, keyAuthorization }) => ({ name: `_acme-challenge.${host}`, value: digest(keyAuthorization) }))
  try {
    for (const { name, value } of records) await inTime('dns.add', async () => await dns.add(name, value), signal)
    await work()
  } finally {
    // Those as well that were not added, as it seems.
    for (const { name, value } of records) {
      await inTime('dns.remove', async () => await dns.remove(name, value), signal).catch((error: Error) => { if (!signal.aborted) warn(`the TXT record ${name} may be there still: ${error.message}`) })
    }
  }
}

/** A function of the app's, which may do anything. */
async function inTime (name: string, work: () => Promise<void>, signal: AbortSignal): Promise<void> {
  const end = new AbortController()
  const late = delay(LONGEST_DNS, undefined, { signal: AbortSignal.any([signal, end.signal]), ref: false }).then(() => { throw new Error(`it has not ended after ${LONGEST_DNS / 60_000} minutes`) })
  try {
    await Promise.race([work(), late])
  } catch (cause) {
    signal.throwIfAborted()
    throw new Error(`${name}: ${reasonOf(cause)}`, { cause })
  } finally {
    late.catch(() => {})
    end.abort()
  }
}

/** Waits for all, also after one has failed: what the CA still asks for has to be answered. */
async function validate ({ client }: Ordering, proofs: readonly Proof[]): Promise<void> {
  for (const { url, isAsked } of proofs) if (!isAsked) await client.respond(url)
  const failures: unknown[] = []
  for (const { authorization, host, url } of proofs) {
    const { status, challenges } = await client.authorization(authorization, ({ status }) => status !== 'pending')
    if (status !== 'valid') failures.push(challenges.find((challenge) => challenge.url === url)?.problem ?? new AcmeProblem({ detail: `the authorization is ${status}` }, 0, undefined, host))
  }
  if (failures.length > 0) throw failures[0]
}
