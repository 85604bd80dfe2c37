/** Certificates for a developer's own machine. */
import { X509Certificate } from 'node:crypto'
import { resolve } from 'node:path'
import { DevelopmentCertificatesError, InvalidOptionsError } from '../../errors.ts'
import { unknownOption } from '../../options/validation-errors.ts'
import { type CertificateSet, type DevelopmentHost, isValid, parseDevelopmentHosts, PASSWORD } from './certificate-set.ts'
import { claim, type DevelopmentFiles, filesIn, prepareDirectory, readOthers, readSet, writeSet } from './directory.ts'

export interface DevelopmentCertificatesOptions {
  /** DNS names (`*.shop.test` too) and IP addresses that the server is reached by. Default: `localhost`, `127.0.0.1`, `::1`. */
  readonly hosts?: readonly string[]
  /** Where to keep the files, relative to the working directory. Default: `.certs`. */
  readonly dir?: string
}

const KNOWN: readonly string[] = ['hosts', 'dir']

/** Frozen, but for the bytes of `p12`: a Buffer cannot be. */
export interface DevelopmentCertificates {
  /** The directory, as an absolute path. */
  readonly dir: string
  /** The hosts that were asked for, in their usual form. */
  readonly hosts: readonly string[]
  /** Whether this call made the certificates; else they were there already, and valid. */
  readonly created: boolean
  readonly files: DevelopmentFiles
  /**
   * PEM, ready for `Fastify({ https })`. With `requestCert: true` added, `ca` admits the client certificate here
   * and no other.
   */
  readonly https: { readonly ca: string, readonly cert: string, readonly key: string }
  /** A client certificate as PEM, and as PKCS #12 (RFC 7292) with its password, for browsers. */
  readonly client: { readonly cert: string, readonly key: string, readonly p12: Buffer, readonly password: string }
  /** How to have the authority trusted, as text for a terminal. Print it when `created`. */
  readonly trust: string
}

/**
 * A local authority, a server's and a client's certificate: made on first use, valid for 90 days, used again until a
 * week before they end. If any of the files is missing or bad, not the owner's alone, or not what is said here, or `hosts`
 * are others, all are made anew: the authority's key is never stored, so that nobody can take it, and so that it can sign
 * nothing later. The authority is constrained to `hosts` (RFC 5280 §4.2.1.10).
 *
 * The directory has mode 0700 and its own `.gitignore`, private files have 0600. Processes that start together agree.
 *
 * @throws FST_HTTP_SECURITY_INVALID_OPTIONS for an unknown option; FST_HTTP_SECURITY_DEVELOPMENT_CERTIFICATES with `NODE_ENV=production`, for what is no host, for a directory
 * that is a symbolic link, another user's or no directory, and, with the `cause`, when files cannot be written
 */
export async function developmentCertificates (options: DevelopmentCertificatesOptions = {}): Promise<DevelopmentCertificates> {
  const unknown = Object.keys(options).find((name) => !KNOWN.includes(name))
  if (unknown !== undefined) throw new InvalidOptionsError(`developmentCertificates: ${unknownOption(unknown, KNOWN, options)}`)
  const { hosts = ['localhost', '127.0.0.1', '::1'], dir = '.certs' } = options
  if (process.env.NODE_ENV === 'production') {
    throw new DevelopmentCertificatesError('NODE_ENV is production: development certificates are not for production, give real ones')
  }
  const parsed = parseDevelopmentHosts(hosts)
  const path = resolve(dir)
  try {
    await prepareDirectory(path)
    const valid = await readValid(path, parsed)
    return valid ? result(path, parsed, valid, false) : await make(path, parsed)
  } catch (error) {
    const { message } = error as Error
    throw new DevelopmentCertificatesError(`development certificates cannot be kept in ${path}: ${message}`, { cause: error })
  }
}

async function readValid (dir: string, hosts: readonly DevelopmentHost[]): Promise<CertificateSet | undefined> {
  const set = await readSet(dir)
  return set && isValid(set, hosts, await readOthers(dir)) ? set : undefined
}

async function make (dir: string, hosts: readonly DevelopmentHost[]): Promise<DevelopmentCertificates> {
  // Only now: these libraries would double the start of an app whose certificates are valid
  const { issueCertificates } = await import('./issue.ts')
  const issued = await issueCertificates(hosts)
  return claim(dir, async (staging) => {
    // Another process may have been faster, or was in the middle of it when this one looked
    const valid = await readValid(dir, hosts)
    if (valid) return result(dir, hosts, valid, false)
    await writeSet(dir, staging, issued)
    return result(dir, hosts, issued, true)
  })
}

function result (dir: string, hosts: readonly DevelopmentHost[], set: CertificateSet, created: boolean): DevelopmentCertificates {
  const files = filesIn(dir)
  return Object.freeze({
    dir,
    hosts: Object.freeze(hosts.map(({ value }) => value)),
    created,
    files,
    https: Object.freeze({ ca: set.ca, cert: set.server.cert, key: set.server.key }),
    client: Object.freeze({ ...set.client, password: PASSWORD }),
    trust: trustText(files, set.ca, hosts)
  })
}

/** How to have development certificates trusted, in words. */

/** Several lines for a terminal, to be printed once, when certificates have been made. */
export function trustText (files: DevelopmentFiles, ca: string, hosts: readonly DevelopmentHost[]): string {
  const { subject, validTo } = new X509Certificate(ca)
  const name = `${subject}`.replace(/^[^]*?CN=(.*)[^]*$/, '$1')
  const [authority, cert, key] = [files.ca, files.clientCert, files.clientKey].map(quoted)
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

  command line        curl --cacert ${authority} --cert ${cert} --key ${key} …
`
}

/** For a POSIX shell, where it needs to be. */
const quoted = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
