/**
 * Development certificates: a local CA, and certificates of a server and of clients. Begin with
 * `developmentCertificates`. Files are read and written in directory.ts, checked in certificate-set.ts, and created in
 * issue.ts.
 */
import { X509Certificate } from 'node:crypto'
import { join, resolve } from 'node:path'
import { DevelopmentCertificatesError, InvalidOptionsError } from '../../errors.ts'
import { withLock } from '../../files/lock.ts'
import { explain } from '../../options/validation-errors.ts'
import { DevelopmentCertificatesOptionsSchema, isDevelopmentCertificatesOptions } from '../checks.generated.ts'
import { type CertificateSet, type ClientPair, type DevelopmentHost, isValid, parseDevelopmentClients, parseDevelopmentHosts, PASSWORD } from './certificate-set.ts'
import { byName, type DevelopmentFiles, filesIn, prepareDirectory, readOthers, readSet, writeSet } from './directory.ts'

/** Options of {@link developmentCertificates}. */
export interface DevelopmentCertificatesOptions {
  /**
   * The DNS names (also `*.shop.test`) and IP addresses by which the server is reached: international names in their
   * `xn--` form, IPv6 without brackets and zone.
   *
   * @default ['localhost', '127.0.0.1', '::1']
   */
  readonly hosts?: readonly string[] | undefined
  /**
   * The directory of the files, relative to the working directory. Created if it does not exist. Apps with different
   * hosts or clients need a directory each.
   *
   * @default '.certs'
   */
  readonly dir?: string | undefined
  /**
   * Clients that get a certificate each, besides the one of `client`: names of 1 to 63 lower-case letters, digits and hyphens
   * that do not begin with a hyphen. The subject of the certificate of `acme` is `CN=acme, O=fastify-http-security development`,
   * and its files are `client-acme.pem`, `client-acme.key` and `client-acme.p12`. Give the same list wherever the directory is
   * used.
   *
   * @default []
   * @example
   * ```ts
   * const tls = await enableTls({ development: { clients: ['acme', 'globex'] } })
   * await app.register(httpSecurity, { tls, clients: { clients: { acme: { certificates: [{ subject: { CN: 'acme' } }] } } } })
   * ```
   */
  readonly clients?: readonly string[] | undefined
}

const SUBJECT = 'developmentCertificates'

/**
 * A client certificate: certificate and private key in PEM; and both as PKCS #12 (RFC 7292) with its password, for
 * browsers.
 */
export interface DevelopmentClient {
  /** The certificate in PEM. */
  readonly cert: string
  /** Its private key in PEM. */
  readonly key: string
  /** Both as PKCS #12. */
  readonly p12: Buffer
  /** The password of `p12`. */
  readonly password: string
}

/** The result of {@link developmentCertificates}. Frozen, except for the bytes of `p12`: a Buffer cannot be. */
export interface DevelopmentCertificates {
  /** The directory, as an absolute path. */
  readonly dir: string
  /** The option `hosts` in its usual form: lower case, IPv6 shortened (RFC 5952). */
  readonly hosts: readonly string[]
  /** Whether this call created the certificates. If not, valid ones were there already. */
  readonly created: boolean
  /** Whether it has replaced others that were there before: whoever has trusted their CA has to trust the new one. */
  readonly replaced: boolean
  /** The files, as absolute paths. */
  readonly files: DevelopmentFiles
  /**
   * Chain and private key of the server in PEM, for `Fastify({ https })`. If you add `requestCert: true`, `ca` accepts
   * the client certificates of this set and no others.
   */
  readonly https: { readonly ca: string, readonly cert: string, readonly key: string }
  /** A client certificate. */
  readonly client: DevelopmentClient
  /** The client certificates of the option `clients`, by name. */
  readonly clients: Readonly<Record<string, DevelopmentClient>>
  /** How to make browsers and other programs trust the CA: text for a terminal. Print it if `created`. */
  readonly trust: string
}

/**
 * Returns certificates for a developer's own machine: a local CA, a server certificate, a client certificate, and one for
 * each client of `clients`.
 *
 * They are created on first use, valid for 90 days, and used again until 7 days before their end. All of them are
 * created again if any file is missing, damaged or not as described here, if a file could be written by another user,
 * if a private file could be read by another user, if `hosts` or `clients` have changed, or if the private key of the CA is
 * in the directory. The files of clients that are not in `clients` any more are removed then.
 *
 * The private key of the CA is never stored: it cannot be stolen, and cannot issue anything later. The CA can issue
 * certificates for `hosts` only (name constraints, RFC 5280 §4.2.1.10).
 *
 * The directory has mode 0700 and its own `.gitignore`; private files have mode 0600. Several processes can start at
 * the same time: they get the same certificates.
 *
 * @param options see {@link DevelopmentCertificatesOptions}
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for an unknown option, a value of another type, an empty `dir`, and for a name of
 * a client that is not allowed or is there twice
 * @throws FST_HTTP_SECURITY_DEVELOPMENT_CERTIFICATES with `NODE_ENV=production`; for an empty list of hosts, and for a
 * host that is neither a DNS name nor an IP address; if the directory is a symbolic link, no directory, or another
 * user's; and, with the `cause`, if files cannot be written
 * @example
 * ```ts
 * import Fastify from 'fastify'
 * import { developmentCertificates, listen } from 'fastify-http-security/tls'
 *
 * const { https, created, trust } = await developmentCertificates({ hosts: ['localhost', 'shop.test'] })
 * if (created) console.log(trust)
 * const app = Fastify({ https })
 * await listen(app, { https: 8443 })
 * ```
 */
export async function developmentCertificates (options: DevelopmentCertificatesOptions = {}): Promise<DevelopmentCertificates> {
  if (!isDevelopmentCertificatesOptions(options)) throw new InvalidOptionsError(explain(SUBJECT, DevelopmentCertificatesOptionsSchema, options))
  const { hosts = ['localhost', '127.0.0.1', '::1'], dir = '.certs', clients = [] } = options
  // It would be the working directory, which is made private, and ignored by git.
  if (dir === '') throw new InvalidOptionsError(`${SUBJECT}: dir: '' is not allowed; allowed: the path of a directory of its own`)
  const names = parseDevelopmentClients(clients, SUBJECT)
  if (process.env.NODE_ENV === 'production') {
    throw new DevelopmentCertificatesError('NODE_ENV is production: development certificates are not for production, give real ones')
  }
  const wanted: Wanted = { dir: resolve(dir), hosts: parseDevelopmentHosts(hosts), clients: names }
  try {
    await prepareDirectory(wanted.dir)
    const valid = await readValid(wanted)
    return valid ? result(wanted, valid) : await make(wanted)
  } catch (error) {
    const { message } = error as Error
    throw new DevelopmentCertificatesError(`development certificates cannot be kept in ${wanted.dir}: ${message}`, { cause: error })
  }
}

/** The options, checked. */
interface Wanted {
  readonly dir: string
  readonly hosts: readonly DevelopmentHost[]
  readonly clients: readonly string[]
}

async function readValid ({ dir, hosts, clients }: Wanted): Promise<CertificateSet | undefined> {
  const set = await readSet(dir, clients)
  return set && isValid(set, hosts, await readOthers(dir, clients)) ? set : undefined
}

async function make (wanted: Wanted): Promise<DevelopmentCertificates> {
  // Imported only if needed: these libraries would double the start time of an app whose certificates are valid
  const { issueCertificates } = await import('./issue.ts')
  const issued = await issueCertificates(wanted.hosts, wanted.clients)
  return withLock(join(wanted.dir, '.new'), async (staging) => {
    // Another process may have created them since, or was creating them when this one looked
    const valid = await readValid(wanted)
    if (valid) return result(wanted, valid)
    const replaced = await writeSet(wanted.dir, staging, issued)
    return result(wanted, issued, { created: true, replaced })
  })
}

function result ({ dir, hosts, clients }: Wanted, set: CertificateSet, { created, replaced } = { created: false, replaced: false }): DevelopmentCertificates {
  const files = filesIn(dir, clients)
  const clientOf = (pair: ClientPair): DevelopmentClient => Object.freeze({ ...pair, password: PASSWORD })
  return Object.freeze({
    dir,
    hosts: Object.freeze(hosts.map(({ value }) => value)),
    created,
    replaced,
    files,
    https: Object.freeze({ ca: set.ca, cert: set.server.cert, key: set.server.key }),
    client: clientOf(set.client),
    clients: byName(clients, (name) => clientOf(set.clients.get(name)!)),
    trust: trustText(files, set.ca, hosts)
  })
}

// Instructions to trust the CA

/** Several lines for a terminal, to print once, when certificates were created. */
export function trustText (files: DevelopmentFiles, ca: string, hosts: readonly DevelopmentHost[]): string {
  const { subject, validTo } = new X509Certificate(ca)
  const name = `${subject}`.replace(/^[^]*?CN=(.*)[^]*$/, '$1')
  const authority = quoted(files.ca)
  const present = (cert: string, key: string): string => `curl --cacert ${authority} --cert ${quoted(cert)} --key ${quoted(key)} …`
  return `Development certificates for ${hosts.map(({ value }) => value).join(', ')}, until ${validTo}.
Browsers and other programs trust them once they trust the authority that issued them, "${name}".
It can vouch for these names only, and its key was never stored.

  command line        curl --cacert ${authority} …
  Node.js             NODE_EXTRA_CA_CERTS=${authority} node …
  Firefox             Settings, Privacy & Security, View Certificates, Authorities, Import: ${files.ca}
  Chromium on Linux   certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n ${quoted(name)} -i ${authority}
  macOS               security add-trusted-cert -r trustRoot -k ~/Library/Keychains/login.keychain-db ${authority}
  Windows             certutil -user -addstore Root ${authority}
  Debian, Ubuntu      sudo cp ${authority} /usr/local/share/ca-certificates/fastify-http-security.crt && sudo update-ca-certificates

To present the client certificate, import ${files.clientP12} into the browser (password: ${PASSWORD}), or:

  command line        ${present(files.clientCert, files.clientKey)}
${Object.entries(files.clients).map(([name, { cert, key }]) => `  as ${name.padEnd(16)} ${present(cert, key)}\n`).join('')}`
}

/** Quoted for a POSIX shell, if necessary. */
const quoted = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
