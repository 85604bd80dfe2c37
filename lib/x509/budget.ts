/**
 * Limits on the work for one client certificate, over all its candidate paths: an attacker with a CA below a configured one
 * can send certificates that lead to any number of paths, with thousands of names. Spent while a path is validated
 * (path-validation.ts) and its revocation is checked (trust/revocation.ts); in total some hundredths of a second.
 */
export class Budget {
  #octets = 1 << 21
  #signatures = 192
  #crlSignatures = 16
  #isUsedUp = false

  /** True once something was refused because its budget was spent. */
  get isUsedUp (): boolean {
    return this.#isUsedUp
  }

  /** Octets of names to compare; each pair also costs a few. False: the budget is spent. */
  takeOctets (octets: number): boolean {
    return this.#may((this.#octets -= octets) >= 0)
  }

  /** One unit is the time to verify an RSA signature with a key of 2048 bits: a tenth of a millisecond at most. */
  takeSignature (work: number): boolean {
    return this.#may((this.#signatures -= work) >= 0)
  }

  /** The signature of one CRL: it takes time in proportion to the CRL's size, which may be many megabytes. */
  takeCrlSignature (): boolean {
    return this.#may(--this.#crlSignatures >= 0)
  }

  #may (isLeft: boolean): boolean {
    this.#isUsedUp ||= !isLeft
    return isLeft
  }
}
