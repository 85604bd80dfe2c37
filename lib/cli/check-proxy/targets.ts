/** What `check-proxy` is asked to do: its arguments, and the files that they name. */
import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { PROBE_PATH, parseProbeToken } from '../../proxy/probe-token.ts'
import type { Target } from './probe-request.ts'
import { Failure, UsageError } from '../io.ts'

/** The environment: arguments can be read by everybody on a machine. */
const VARIABLE = 'FASTIFY_HTTP_SECURITY_PROBE'

/** @param timeout milliseconds that one request may take */
export async function readTargets (args: readonly string[], timeout: number): Promise<{ readonly targets: readonly Target[], readonly json: boolean }> {
  const { values: { ca, cert, key, json, 'token-file': tokenFile }, positionals } = parseTargetArgs(args)
  if (positionals.length === 0) throw new UsageError('check-proxy takes one or more URLs')
  if ((cert === undefined) !== (key === undefined)) throw new UsageError('--cert and --key belong together')
  const urls = positionals.map(urlOf)
  const token = tokenIn(tokenFile === undefined ? process.env[VARIABLE] : String(await read(tokenFile)), tokenFile ?? VARIABLE)
  const identity = cert === undefined ? undefined : { cert: await read(cert), key: await read(key!) }
  const ofAll = {
    token,
    tls: { ...ca !== undefined && { ca: await read(ca) }, ...identity },
    fingerprint256: identity === undefined ? undefined : fingerprintOf(identity.cert, cert!),
    timeout
  }
  const targets = new Map(urls.map(({ origin, path }) => [`${origin}${path}`, { name: `${origin}${path}`, url: probeBelow(`${origin}${path}`), isPlain: origin.startsWith('http:'), ...ofAll }]))
  // Over HTTPS more answers, which tells what to send over HTTP.
  return { targets: [...targets.values()].sort((a, b) => Number(a.isPlain) - Number(b.isPlain)), json }
}

/** @param name a URL without a slash at its end */
export function probeBelow (name: string): URL {
  return new URL(`${name}${PROBE_PATH}`)
}

function parseTargetArgs (args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { ca: { type: 'string' }, cert: { type: 'string' }, key: { type: 'string' }, 'token-file': { type: 'string' }, json: { type: 'boolean', default: false } }
    })
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error })
  }
}

/** Without a slash at the end: an app may be mounted below a path. */
function urlOf (text: string): { origin: string, path: string } {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const obstacle = obstacleIn(url)
  if (url === undefined || obstacle !== undefined) throw new UsageError(`the URL is not allowed: ${obstacle}. Allowed: that of the app as its clients reach it, such as https://shop.example or http://shop.example, with a path where it is mounted below one`)
  return { origin: url.origin, path: url.pathname.replace(/\/+$/, '') }
}

/** It does not say what it holds, which may be a secret. */
function obstacleIn (url: URL | undefined): string | undefined {
  if (url === undefined) return 'it is none, or without https:// or http://'
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return `its scheme is ${url.protocol}, and neither https: nor http:`
  const parts = { 'a user': url.username, 'a password': url.password, 'a query': url.search, 'a fragment': url.hash }
  const [part] = Object.entries(parts).find(([, value]) => value !== '') ?? []
  return part && `it has ${part}`
}

function tokenIn (text: string | undefined, name: string): string {
  const token = text?.trim()
  if (token === undefined || token === '') throw new UsageError(`a token is missing: ${name} is not there or empty. Make one with probe-token, and give it to the app as proxy.probe`)
  if (parseProbeToken(token) === undefined) throw new UsageError(`${name} holds no token; allowed: what probe-token prints`)
  return token
}

/** Of the first certificate, which is the client's own. */
function fingerprintOf (pem: Buffer, path: string): string {
  try {
    return new X509Certificate(pem).fingerprint256.replaceAll(':', '').toLowerCase()
  } catch (cause) {
    throw new Failure(`${path} holds no certificate in PEM`, { cause })
  }
}

async function read (path: string): Promise<Buffer> {
  return await readFile(path).catch((error: Error) => {
    throw new Failure(`${path} cannot be read: ${error.message}`)
  })
}
