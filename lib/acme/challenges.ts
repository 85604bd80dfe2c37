/**
 * Challenges that are pending, in memory: what the HTTP port answers to the CA (http-01, RFC 8555 §8.3). Every other request is
 * an ordinary one.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { parseHost } from '../url/host.ts'
import type { PendingChallenge } from './store.ts'

const PATH = '/.well-known/acme-challenge/'

export class Challenges {
  /** By token: base64url, as the client has checked. */
  #pending: ReadonlyMap<string, PendingChallenge> = new Map()

  /** In place of those before. */
  set (pending: readonly PendingChallenge[]): void {
    this.#pending = new Map(pending.map((challenge) => [challenge.token, challenge]))
  }

  /** Answers a request for a pending challenge of the host that it names; false for every other request. */
  answer ({ method, url, headers }: IncomingMessage, response: ServerResponse): boolean {
    if (this.#pending.size === 0 || method !== 'GET' || !url!.startsWith(PATH)) return false
    const challenge = this.#pending.get(url!.slice(PATH.length))
    if (challenge === undefined || challenge.until < Date.now() || parseHost(headers.host ?? '')?.name.toLowerCase() !== challenge.host) return false
    response.writeHead(200, {
      'content-type': 'application/octet-stream',
      'content-length': challenge.keyAuthorization.length,
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store'
    }).end(challenge.keyAuthorization)
    return true
  }
}
