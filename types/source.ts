/**
 * Where something comes from that may change while the app runs.
 */

/** A source of one's own: neither a value nor a file. */
export interface WatchedSource<Value> {
  /** Resolves to what it is now. A failed load is tried again until it succeeds, or something else comes. */
  load (): Promise<Value>
  /** Calls `changed` whenever it should be loaded again; returns a function that stops it, or a promise of one. */
  watch?: ((changed: () => void) => (() => void) | Promise<() => void>) | undefined
}

/** A source of documents of one's own, which may be written, too. */
export interface DocumentSource<Value> extends WatchedSource<unknown> {
  /**
   * Stores another document: as a whole, or not at all. Rejects with an error of the code `FST_HTTP_SECURITY_CONFLICT` where
   * what is stored has another digest than `expected` by now.
   *
   * @param expected the digest of the document that it replaces, as `digestOf` has it
   */
  save?: ((value: Value, expected: string) => Promise<void>) | undefined
}
