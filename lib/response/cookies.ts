/**
 * Cookies that are set over HTTPS are not sent over HTTP (RFC 6265 §4.1.2.5).
 */

/** The value of a Set-Cookie field with the attribute Secure, once. */
export function secureCookie (cookie: string): string {
  // By attributes: a path may be called `/; secure` as little as a name may, but `Path=/secure` is usual (RFC 6265 §5.2).
  const isSecure = cookie.split(';').slice(1).some((attribute) => attribute.split('=', 1)[0]!.trim().toLowerCase() === 'secure')
  return isSecure ? cookie : `${cookie}; Secure`
}
