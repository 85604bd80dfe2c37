/**
 * Where a document comes from that may change while the app runs.
 */

/** A source of one's own: neither a value nor a file. */
export interface DocumentSource<Value> {
  /** Resolves to the document as it is now. A failed load is tried again until it succeeds, or another document comes. */
  load (): Promise<unknown>
  /** Calls `changed` whenever the document should be loaded again; returns a function that stops it, or a promise of one. */
  watch?: ((changed: () => void) => (() => void) | Promise<() => void>) | undefined
  /**
   * Stores another document: as a whole, or not at all. Rejects with an error of the code `FST_HTTP_SECURITY_CONFLICT` where
   * what is stored has another digest than `expected` by now.
   *
   * @param expected the digest of the document that it replaces, as `digestOf` has it
   */
  save?: ((value: Value, expected: string) => Promise<void>) | undefined
}
