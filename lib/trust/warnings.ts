/**
 * Warnings of what was loaded: what is unusual about client CAs and CRLs, but possibly intended. Begin with `warningsOf`.
 */
import { describe } from '../files/pem.ts'
import { readOr } from '../x509/der.ts'
import { parseCertificate } from '../x509/parsed-certificate.ts'
import { problemOfAuthority } from '../x509/problems-in-words.ts'
import { CaLabels } from './labels.ts'
import type { LoadedTrust } from './load.ts'
import { isOnline, type TrustOptions } from './options.ts'

export function warningsOf (loaded: LoadedTrust, options: TrustOptions): readonly string[] {
  return [...caWarnings(loaded, options), ...loaded.warnings, ...loaded.crls.length === 0 ? [] : crlWarnings(loaded, options)]
}

function caWarnings ({ cas, labels }: LoadedTrust, { isLegacy }: TrustOptions): string[] {
  const unusable = cas.flatMap(({ certificate, source }) => {
    const problem = problemOfAuthority(certificate, isLegacy)
    return problem === undefined ? [] : [`${source}: ${describe(certificate)} can never be used (${problem}): its clients are refused`]
  })
  const rootless = cas
    .filter(({ certificate }) => !cas.some((other) => certificate.checkIssued(other.certificate)))
    .map(({ certificate, source }) => `${source}: the issuer of ${describe(certificate)} is not among the authorities: its clients are refused`)
  const ambiguous = new CaLabels(labels).ambiguous.map(({ certificate, labels }) =>
    `${cas.find((ca) => ca.certificate === certificate)!.source}: ${describe(certificate)} has the labels ${labels.map((label) => `'${label}'`).join(' and ')}, by this certificate or another one of its name and key: its clients get none of them`)
  return [...unusable, ...rootless, ...ambiguous]
}

function crlWarnings ({ cas, crls }: LoadedTrust, options: TrustOptions): string[] {
  const unusable = crls
    .filter(({ crl }) => crl.unusable !== undefined)
    .map(({ crl, source }) => `${source}: the revocation list of ${crl.issuerName} is not used (${crl.unusable!})`)
  // With CRLs and OCSP from the network, a CA without a file may be covered as well.
  const uncovered = cas
    .filter(({ certificate }) => !isOnline(options) && certificate.ca && !crls.some(({ crl }) => readOr(() => parseCertificate(certificate).subject === crl.issuer, false)))
    .map(({ certificate, source }) => `${source}: no revocation list of ${describe(certificate)} was given, but others were: of its clients, nothing is known`)
  return [...unusable, ...uncovered]
}
