/** The arguments of `check-proxy`, and the files that they name. Begin with `readTargets`. */
import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { PROBE_PATH, parseProbeToken } from '../../proxy/probe-token.ts'
import type { Target } from './probe-request.ts'
import { Failure, UsageError } from '../io.ts'
import { type Identity, identityOf } from './leaks.ts'

/** The environment variable with the token: arguments can be read by every user of a machine. */
const VARIABLE = 'FASTIFY_HTTP_SECURITY_PROBE'

/**
 * Reads the arguments and files, and returns one target for each URL.
 *
 * @param timeout milliseconds for one request
 */
export async function readTargets (args: readonly string[], timeout: number): Promise<{ readonly targets: readonly Target[], readonly json: boolean }> {
  const { values: { ca, cert, key, json, 'token-file': tokenFile }, positionals } = parseTargetArgs(args)
  if (positionals.length === 0) throw new UsageError('check-proxy takes one or more URLs')
  if ((cert === undefined) !== (key === undefined)) throw new UsageError('--cert and --key belong together')
  const urls = positionals.map(urlOf)
  const token = tokenIn(tokenFile === undefined ? process.env[VARIABLE] : String(await read(tokenFile)), tokenFile ?? VARIABLE)
  const credentials = cert === undefined ? undefined : { cert: await read(cert), key: await read(key!) }
  const ofAll = {
    token,
    tls: { ...ca !== undefined && { ca: await read(ca) }, ...credentials },
    client: credentials === undefined ? undefined : clientIn(credentials.cert, cert!),
    timeout
  }
  const targets = new Map(urls.map(({ origin, path }) => [`${origin}${path}`, { name: `${origin}${path}`, url: probeBelow(`${origin}${path}`), isPlain: origin.startsWith('http:'), ...ofAll }]))
  // HTTPS first: its probe more often answers, which shows what to forge over HTTP.
  return { targets: [...targets.values()].sort((a, b) => Number(a.isPlain) - Number(b.isPlain)), json }
}

/**
 * The URL of the probe of an app.
 *
 * @param name the URL of the app, without a trailing slash
 */
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

/** A URL without a trailing slash: an app may be mounted below a path. */
function urlOf (text: string): { origin: string, path: string } {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const obstacle = obstacleIn(url)
  if (url === undefined || obstacle !== undefined) throw new UsageError(`the URL is not allowed: ${obstacle}. Allowed: that of the app as its clients reach it, such as https://shop.example or http://shop.example, with a path where it is mounted below one`)
  return { origin: url.origin, path: url.pathname.replace(/\/+$/, '') }
}

/** The message does not contain the URL, which may hold a secret. */
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

/** By the first certificate, which is the client's own. */
function clientIn (pem: Buffer, path: string): Identity {
  try {
    return identityOf(new X509Certificate(pem))
  } catch (cause) {
    throw new Failure(`${path} holds no certificate in PEM`, { cause })
  }
}

async function read (path: string): Promise<Buffer> {
  return await readFile(path).catch((error: Error) => {
    throw new Failure(`${path} cannot be read: ${error.message}`)
  })
}
