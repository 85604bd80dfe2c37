/**
 * What may be done for one client, whatever paths there are for it: whoever has an authority of their own below one that is
 * configured can send certificates that lead anywhere, with thousands of names. In sum some hundredths of a second.
 */
export class Budget {
  #octets = 1 << 21
  #signatures = 192
  #listSignatures = 16
  #isUsedUp = false

  /** Something was not done, as it would have been too much. */
  get isUsedUp (): boolean {
    return this.#isUsedUp
  }

  /** Of names that are compared; any two names count as some of them. False: too many. */
  takeOctets (octets: number): boolean {
    return this.#may((this.#octets -= octets) >= 0)
  }

  /** In what one with RSA of 2048 bits takes, a tenth of a millisecond at most. */
  takeSignature (work: number): boolean {
    return this.#may((this.#signatures -= work) >= 0)
  }

  /** One of a list, which may be of many megabytes: they take as long as its octets. */
  takeCrlSignature (): boolean {
    return this.#may(--this.#listSignatures >= 0)
  }

  #may (isLeft: boolean): boolean {
    this.#isUsedUp ||= !isLeft
    return isLeft
  }
}
