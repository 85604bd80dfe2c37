/** HTTP Strict Transport Security (RFC 6797). */
import type { HstsPolicy } from '../../types/policy.ts'

/** The value of Strict-Transport-Security (RFC 6797 §6.1). Worked out once for each policy. */
export function hstsHeader ({ maxAge, includeSubDomains, preload }: HstsPolicy): string {
  return `max-age=${maxAge}${includeSubDomains === true ? '; includeSubDomains' : ''}${preload === true ? '; preload' : ''}`
}
