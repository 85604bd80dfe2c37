/**
 * Where a document comes from that may change while the app runs.
 */

/** A source of one's own: neither a value nor a file. */
export interface DocumentSource {
  /** Resolves to the document as it is now. A failed load is tried again until it succeeds, or another document comes. */
  load (): Promise<unknown>
  /** Calls `changed` whenever the document should be loaded again; returns a function that stops it, or a promise of one. */
  watch?: ((changed: () => void) => (() => void) | Promise<() => void>) | undefined
}
