/**
 * Makes development certificates. Loaded only when there are some to be made: what it imports takes longer to load
 * than a small app takes to start.
 */
// @peculiar/x509 needs it, and needs it first
import 'reflect-metadata'
import * as x509 from '@peculiar/x509'
import { randomBytes, webcrypto } from 'node:crypto'
import { NAME_CONSTRAINTS, nameConstraints } from './constraints.ts'
import type { DevelopmentHost } from './hosts.ts'
import { pkcs12 } from './pkcs12.ts'
import { PASSWORD, type CertificateSet, type Pair } from './set.ts'

const DAY = 24 * 60 * 60 * 1000
/** Days. The authority is as short-lived as what it issued, for its key is gone. */
const VALID_DAYS = 90
/** Milliseconds. Clocks differ between a container, its host and a telephone. */
const BACKDATED = 60 * 60 * 1000
const ORGANISATION = 'fastify-http-security development'
const P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

/** Signs with a key that nothing outside this closure can reach, and that is not extractable. */
export interface Authority {
  readonly cert: string
  issue (commonName: string, usage: x509.ExtendedKeyUsage, names?: readonly DevelopmentHost[]): Promise<Pair>
}

/** A new authority, a server's certificate for `hosts`, and a client's. The authority's key is dropped. */
export async function issueCertificates (hosts: readonly DevelopmentHost[]): Promise<CertificateSet> {
  const authority = await createAuthority(hosts)
  const [server, client] = await Promise.all([
    authority.issue('development server', x509.ExtendedKeyUsage.serverAuth, hosts),
    // No alternative names: they would have to be among the hosts, which a client is not
    authority.issue('development client', x509.ExtendedKeyUsage.clientAuth)
  ])
  return { ca: authority.cert, server, client: { ...client, p12: await pkcs12(client, PASSWORD) } }
}

/** An authority that can vouch for `hosts` only (RFC 5280 §4.2.1.10), and for no further authority. */
export async function createAuthority (hosts: readonly DevelopmentHost[]): Promise<Authority> {
  const keys = await webcrypto.subtle.generateKey(P256, false, ['sign', 'verify'])
  const validity = { notBefore: new Date(Date.now() - BACKDATED), notAfter: new Date(Date.now() + VALID_DAYS * DAY) }
  // A name of its own for each: browsers confuse authorities of one name, and people must tell which to remove
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity,
    name: `CN=Development CA ${randomBytes(4).toString('hex')}, O=${ORGANISATION}`,
    keys,
    signingAlgorithm: P256,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      new x509.Extension(NAME_CONSTRAINTS, true, nameConstraints(hosts)),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey)
    ]
  })
  return {
    cert: pem(ca),
    async issue (commonName, usage, names = []) {
      const own = await webcrypto.subtle.generateKey(P256, true, ['sign', 'verify'])
      const certificate = await x509.X509CertificateGenerator.create({
        ...validity,
        subject: `CN=${commonName}, O=${ORGANISATION}`,
        issuer: ca.subjectName,
        publicKey: own.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: P256,
        extensions: [
          new x509.BasicConstraintsExtension(false, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
          new x509.ExtendedKeyUsageExtension([usage]),
          await x509.SubjectKeyIdentifierExtension.create(own.publicKey),
          await x509.AuthorityKeyIdentifierExtension.create(keys.publicKey),
          ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension([...names])] : [])
        ]
      })
      const key = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', own.privateKey))
      return { cert: pem(certificate), key: x509.PemConverter.encode(key, 'PRIVATE KEY') + '\n' }
    }
  }
}

const pem = (certificate: x509.X509Certificate): string => certificate.toString('pem') + '\n'
