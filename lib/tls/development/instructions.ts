/** How to have development certificates trusted, in words. */
import { X509Certificate } from 'node:crypto'
import type { DevelopmentFiles } from './directory.ts'
import type { DevelopmentHost } from './hosts.ts'
import { PASSWORD } from './set.ts'

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
