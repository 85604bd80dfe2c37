/**
 * Whether a configured authority can be of any use: none that cannot is in a valid path, now or later.
 */
import type { X509Certificate } from 'node:crypto'
import { readOr } from '../der.ts'
import { strengthOf } from './algorithms.ts'
import { type ParsedCertificate, parseCertificate } from './facts.ts'
import { problemOfPurpose } from './purposes.ts'
import { UNREADABLE, PROBLEMS_IN_WORDS } from './words.ts'

/**
 * Why no certificate is ever valid by this authority, for a warning; undefined: one may be. Dates are not looked at, nor
 * whether there is an anchor above it.
 *
 * @param isLegacy as of `PathVerifier`
 */
export function problemOfAuthority (certificate: X509Certificate, isLegacy = false): string | undefined {
  const facts = readOr(() => parseCertificate(certificate), undefined)
  if (facts === undefined) return UNREADABLE
  const isAnchor = certificate.checkIssued(certificate)
  const problem = (isLegacy && facts.isVersion1 && isAnchor ? undefined : facts.problem) ??
    (isAnchor ? undefined : problemOfIssued(facts, isLegacy)) ??
    (strengthOf(facts, isLegacy) === undefined ? 'CA_KEY_TOO_SMALL' : problemOfUse(facts, isAnchor, isLegacy))
  return problem === undefined ? undefined : `${PROBLEMS_IN_WORDS.get(problem)!} (${problem})`
}

/** An anchor's own signature and policies do not count. */
function problemOfIssued ({ policies, scheme, isLegacyScheme, looksSelfSigned }: ParsedCertificate, isLegacy: boolean): string | undefined {
  if (policies === undefined) return 'INVALID_POLICY_EXTENSION'
  // By its keyUsage it has not signed itself: nothing leads on from it.
  if (looksSelfSigned) return 'INVALID_CA'
  return scheme === undefined && !(isLegacy && isLegacyScheme) ? 'CA_MD_TOO_WEAK' : undefined
}

/** A self-signed client may be configured as an authority of its own. */
function problemOfUse (facts: ParsedCertificate, isAnchor: boolean, isLegacy: boolean): string | undefined {
  const isClient = isAnchor && problemOfPurpose([facts], 0, true) === undefined
  return isClient ? undefined : problemOfPurpose([facts], 0, false, isLegacy)
}
