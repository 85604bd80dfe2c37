/**
 * Certificates for both ends, made for this run.
 */
import type { ServerOptions } from 'node:https'
import { authority, issue, issueServer } from '../../test/fixtures/pki.ts'

/** Text only, so that it can be sent to other processes. */
export interface Identities {
  readonly server: Pem & { readonly ca: string }
  readonly client: Pem & { readonly ca: string }
  /** The path of a revocation list. */
  readonly crl?: string
  /** Of further hosts, the paths. */
  readonly hosts?: readonly Pem[]
}
export interface Pem { readonly cert: string, readonly key: string }

/** Servers and clients have authorities of their own: who trusts the issuer of his own certificate sends that along. */
export async function makeIdentities (): Promise<Identities> {
  const [serverCa, clientCa] = await Promise.all([authority('Server CA'), authority('Client CA')])
  const [server, client] = await Promise.all([issueServer(serverCa), issue(clientCa, { subject: 'C=PT, O=Acme, OU=Partners, CN=Jane' })])
  return {
    server: { cert: server.cert, key: server.key, ca: serverCa.cert },
    client: { cert: client.cert, key: client.key, ca: clientCa.cert }
  }
}

/** Node's options for a server that asks for certificates and leaves the answer to whoever is measured. */
export function askingServer ({ server: { cert, key }, client: { ca } }: Identities): ServerOptions {
  return { cert, key, ca, requestCert: true, rejectUnauthorized: false }
}
