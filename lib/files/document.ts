/**
 * A document that administrators write, and where it comes from: a value, a JSON file, or a source of the application.
 * Begin with {@link followDocument}.
 */
import { resolve } from 'node:path'
import type { DocumentSource } from '../../types/source.ts'
import { NotSavedError } from '../errors.ts'
import { readJsonInSlices } from './json.ts'
import { readRegular } from './read.ts'
import { ReloadQueue } from './reload-queue.ts'
import { reasonOf, watchFiles, watchSource } from './watch.ts'

/** What comes from a source: how it is checked, and named. */
export interface SourceKind<Value = unknown> {
  /** For messages and the log: `policy`. */
  readonly name: string
  /** The error for something that is wrong, or cannot be loaded. */
  readonly Invalid: new (message: string, options?: ErrorOptions) => Error
  /**
   * @param input of a document: as `JSON.parse` returns it
   * @param where for messages: the name of a file, or of the kind
   * @throws Invalid
   */
  check (input: unknown, where: string): Value | Promise<Value>
}

/** What kind of document it is. */
export interface DocumentKind<Value = unknown> extends SourceKind<Value> {
  /** For a warning: what those who may write the file decide, such as `what is enforced`. */
  readonly stake: string
  /** Bytes of the largest file. */
  readonly largest: number
}

/** A source of any sort. */
export interface OpenSource<Value = unknown, Loaded = unknown> {
  /** For the log: the path of a file, `source` or `options`. */
  readonly name: string
  /** What is going on while it loads, for the log. */
  readonly loading: string
  /** @throws the kind's error where it could not be loaded, which may succeed later */
  load (): Promise<Loaded>
  /** @throws the kind's error where the loaded value is not such a document */
  check (loaded: Loaded): Value | Promise<Value>
  /** Returns a function that stops it. */
  watch (changed: () => void): () => void
  /** Why nothing can be saved, in words; undefined where it can. Permissions change: the answer holds now. */
  saveObstacle (): Promise<string | undefined>
  /**
   * Stores another document: as a whole, or not at all. A file keeps its layout, its order of names and its `$schema`.
   *
   * @param value what is stored, as JSON: it is checked first
   * @param expected the digest of the document that it replaces (`digestOf`)
   * @throws the kind's error where it is no such document; FST_HTTP_SECURITY_CONFLICT where another one is stored by now;
   * FST_HTTP_SECURITY_NOT_SAVED, with the reason; what the `save` of a user's source throws
   */
  save (value: unknown, expected: string): Promise<void>
}

/** What becomes of a document, and who is told. */
interface Follower<Value> {
  /** Puts it in force. Throws where that is not possible now. */
  take (value: Value, by: string): void
  /** A later document is wrong, or could not be loaded. */
  rejected (error: Error): void
  /** The document is loaded again after it was rejected. */
  recovered (by: string): void
  /** Told of problems that do not stop it. */
  warn (message: string): void
}

/** A document that is loaded again whenever its source changes. */
export interface FollowedDocument {
  /** Something else was put in force: what was asked for before has no effect any more. */
  supersede (): void
  stop (): void
}

/**
 * Loads a document, and follows its source from then on.
 *
 * @param deadline of the first load, by `performance.now()`
 * @throws the kind's error where the first document is wrong, cannot be loaded, or does not come in time
 */
export async function followDocument<Value> (option: string | object, kind: DocumentKind<Value>, follower: Follower<Value>, deadline: number): Promise<FollowedDocument> {
  const source = openSource(option, kind, (message) => follower.warn(message))
  const reloading = new ReloadQueue<unknown, Value>({
    loading: source.loading,
    load: () => source.load(),
    check: (loaded) => source.check(loaded),
    take: (value) => follower.take(value, source.name),
    failed: (error) => follower.rejected(error),
    recovered: () => follower.recovered(source.name),
    waiting: (message) => follower.warn(message)
  })
  // Watched before the first load, so that no change is missed.
  const unwatch = source.watch(() => reloading.changed())
  const stop = (): void => {
    unwatch()
    reloading.stop()
  }
  try {
    await reloading.begin(deadline - performance.now(), (message) => new kind.Invalid(message))
  } catch (error) {
    stop()
    throw error
  }
  return { supersede: () => reloading.supersede(), stop }
}

/** @param warn is told of problems of a file or source that do not stop it */
export function openSource<Value> (option: string | object, kind: DocumentKind<Value>, warn: (message: string) => void): OpenSource<Value> {
  return typeof option === 'string' ? fileSource(option, kind, warn) as OpenSource<Value> : openObject(option, kind, warn)
}

/**
 * A value, which is loaded as it is by then, or a source of the application.
 *
 * @param warn is told of problems of a source that do not stop it
 */
export function openObject<Value> (option: object, kind: SourceKind<Value>, warn: (message: string) => void): OpenSource<Value> {
  if (isSource(option)) return customSource(option, kind, warn)
  return {
    name: 'options',
    loading: kind.name,
    load: async () => option,
    check: (input) => kind.check(input, kind.name),
    watch: () => () => {},
    ...notSaved(kind, 'it is a value in the options of the application')
  }
}

function notSaved ({ name }: SourceKind, obstacle: string): Pick<OpenSource, 'save' | 'saveObstacle'> {
  return {
    saveObstacle: async () => obstacle,
    async save () { throw new NotSavedError(`${name}: cannot be written: ${obstacle}`) }
  }
}

/** The value as it will be read again: JSON has no undefined. */
async function checked (value: unknown, kind: SourceKind): Promise<object> {
  let document: unknown
  try {
    document = JSON.parse(JSON.stringify(value))
  } catch (cause) {
    throw new kind.Invalid(`${kind.name}: it cannot be written as JSON: ${(cause as Error).message}`, { cause })
  }
  await kind.check(document, kind.name)
  return document as object
}

export function isSource (option: object): option is DocumentSource<never> {
  return typeof (option as DocumentSource<never>).load === 'function'
}

function fileSource<Value> (name: string, kind: DocumentKind<Value>, warn: (message: string) => void): OpenSource<Value, string> {
  // Resolved now, because the working directory may change.
  const path = resolve(name)
  let lastWarning: string | undefined
  return {
    name,
    loading: `${kind.name}: reading ${name}`,
    async load () {
      const { text, warning } = await readDocument(path, name, kind)
      if (warning !== undefined && warning !== lastWarning) warn(warning)
      lastWarning = warning
      return text
    },
    check: async (text) => kind.check(await parseDocument(text, name, kind), name),
    watch: (changed) => watchFiles([path], changed),
    // Loaded only where something is written.
    saveObstacle: async () => await (await import('./save-file.ts')).fileObstacle(path),
    async save (value, expected) {
      const document = await checked(value, kind)
      await (await import('./save-file.ts')).saveFile({ path, name, largest: kind.largest }, document, expected)
    }
  }
}

function customSource<Value> (source: DocumentSource<never>, kind: SourceKind<Value>, warn: (message: string) => void): OpenSource<Value> {
  return {
    name: 'source',
    loading: `${kind.name}: load() of the source`,
    async load () {
      try {
        return await source.load()
      } catch (cause) {
        throw new kind.Invalid(`${kind.name}: the source did not load: ${reasonOf(cause)}`, { cause })
      }
    },
    check: (input) => kind.check(input, kind.name),
    watch: (changed) => watchSource(source, changed, (reason) => warn(`${kind.name}: the source ${reason}`)),
    ...typeof source.save === 'function'
      ? {
          saveObstacle: async () => undefined,
          save: async (value, expected) => { await source.save!(await checked(value, kind) as never, expected) }
        }
      : notSaved(kind, 'its source has no save()')
  }
}

// Files

const WRITABLE_BY_OTHERS = 0o002

/** The content of a file, and a problem that does not stop it. */
interface DocumentFile {
  readonly text: string
  readonly warning: string | undefined
}

/**
 * @param path absolute
 * @param name for messages: the path as it was written
 * @throws the kind's error
 */
export async function readDocument (path: string, name: string, { Invalid, stake, largest }: DocumentKind): Promise<DocumentFile> {
  try {
    const { bytes, mode } = await readRegular(path, largest)
    return {
      text: bytes.toString(),
      warning: (mode & WRITABLE_BY_OTHERS) === 0 ? undefined : `${name} can be written by every user of this machine, and with it ${stake}`
    }
  } catch (cause) {
    throw new Invalid(`${name}: cannot be read: ${(cause as Error).message}`, { cause })
  }
}

/** @throws the kind's error, with line and column of a JSON error */
export async function parseDocument (text: string, name: string, { Invalid }: DocumentKind): Promise<unknown> {
  try {
    // Windows editors write a byte order mark, which is not allowed in JSON (RFC 8259 §8.1).
    return await readJsonInSlices(text.replace(/^\uFEFF/, ''))
  } catch (cause) {
    throw new Invalid(`${name}:${(cause as Error).message}`, { cause })
  }
}
