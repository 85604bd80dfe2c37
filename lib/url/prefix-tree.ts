/**
 * Finds the prefixes that cover a path, by whole segments: `/shop` covers `/shop` and `/shop/x`, not `/shopping`. Begin with
 * {@link PrefixTree}. {@link PrefixTree.readings} also follows every way in which a handler may read a path.
 */
import { foldText } from './path-readings.ts'

interface Node<Entry> {
  readonly children: Map<string, Node<Entry>>
  /** For a parameter in a registered prefix, which any segment matches. */
  any?: Node<Entry>
  /** Not empty. */
  entries?: readonly Entry[]
}

/** Segments that are read in one target, in all of its readings together. A legitimate target takes a few. */
const MOST_STEPS = 64

/** How often a segment may be read as a host: URL parsers read `//x/shop` as the path `/shop` on host x, and some parse twice. */
const MOST_HOSTS = 2

const SLASH = 47
const BACKSLASH = 92
const DOT = 46
const SPACE = 32

/** Counts down, for all texts of a target together. */
interface Steps { left: number }

/** The position of one reading. */
interface Place<Entry> {
  readonly node: Node<Entry>
  readonly text: string
  readonly at: number
  /** The entries of the nodes above this one. */
  readonly above: readonly Entry[]
  /** Slashes before this place, as this reader sees them. */
  readonly slashes: number
  /** Segments that were read as a host, and so not as a part of the path. */
  readonly hosts: number
}

export class PrefixTree<Entry> {
  readonly #root: Node<Entry> = { children: new Map() }
  /** Characters of the longest segment. */
  #longest = 0

  get isEmpty (): boolean {
    return this.#root.entries === undefined && isLeaf(this.#root)
  }

  /**
   * Adds an entry to those of a prefix, once.
   *
   * @param prefix in canonical form
   * @param isParameter whether a segment stands for any segment
   */
  add (prefix: string, entry: Entry, isParameter: (segment: string) => boolean = () => false): void {
    let node = this.#root
    for (const segment of segmentsOf(prefix)) {
      if (isParameter(segment)) {
        node = node.any ??= { children: new Map() }
        continue
      }
      this.#longest = Math.max(this.#longest, segment.length)
      let child = node.children.get(segment)
      if (child === undefined) node.children.set(segment, child = { children: new Map() })
      node = child
    }
    const entries = node.entries ?? []
    if (!entries.includes(entry)) node.entries = [...entries, entry]
  }

  /** The entries of all prefixes that cover a path in canonical form without parameters, shortest first. */
  covering (path: string): Entry[] {
    const entries: Entry[] = []
    let node: Node<Entry> | undefined = this.#root
    entries.push(...node.entries ?? [])
    for (const segment of segmentsOf(path)) {
      node = node.children.get(segment)
      if (node === undefined) break
      entries.push(...node.entries ?? [])
    }
    return entries
  }

  /**
   * The same for every reading of a target's path: one list for each reading, shortest first. `null`: there are too many.
   *
   * @param texts of `spellings`, not in canonical form
   */
  readings (texts: readonly string[]): Array<readonly Entry[]> | null {
    if (isLeaf(this.#root)) return [this.covering('/')]
    const found: Array<readonly Entry[]> = []
    const steps = { left: MOST_STEPS }
    return texts.every((text) => this.#read({ node: this.#root, text, at: 0, above: [], slashes: 0, hosts: 0 }, found, steps)) ? found : null
  }

  /**
   * Reads on from a place in a text. Wherever readers differ, each choice is followed, also in combinations that no reader
   * makes: that can only make the result stricter.
   *
   * @returns false where there are too many steps
   */
  #read (place: Place<Entry>, found: Array<readonly Entry[]>, steps: Steps): boolean {
    if (steps.left-- === 0) return false
    const { node, text, at, above, hosts } = place
    const entries = node.entries === undefined ? above : [...above, ...node.entries]
    const start = endOfSlashes(text, at)
    const slashes = place.slashes + start - at
    const ways = isLeaf(node) ? [] : waysOn(text, at, start)
    let isEnd = ways.length === 0 || start === text.length
    for (const [segment, next] of ways) {
      // Some readers merge slashes, and remove a single dot with one of the slashes around it.
      if (segment === '' && !this.#read({ ...place, at: next, slashes }, found, steps)) return false
      if (segment === '.' && !this.#read({ ...place, at: next, slashes: slashes - 1 }, found, steps)) return false
      if (segment === '') continue
      const children = [this.#childOf(node, segment), node.any].filter((child) => child !== undefined)
      if (children.length === 0) isEnd = true
      if (!children.every((child) => this.#read({ node: child, text, at: next, above: entries, slashes: 0, hosts }, found, steps))) return false
    }
    const isHost = node === this.#root && slashes > 1 && hosts < MOST_HOSTS
    if (isHost && !this.#read({ ...place, at: endOfSegment(text, start), slashes: 0, hosts: hosts + 1 }, found, steps)) return false
    if (isEnd) found.push(entries)
    return true
  }

  #childOf (node: Node<Entry>, segment: string): Node<Entry> | undefined {
    // The canonical form of a text has at least half of its length.
    return segment.length > 2 * this.#longest ? undefined : node.children.get(foldText(segment))
  }
}

function isLeaf<Entry> ({ children, any }: Node<Entry>): boolean {
  return children.size === 0 && any === undefined
}

/** A segment as a reader may read it, and where that reader goes on. */
type Way = readonly [segment: string, next: number]

/** Every way to read the next segment, after the slashes from `at` to `start`; none at the end of the text. */
function waysOn (text: string, at: number, start: number): Way[] {
  const end = endOfSegment(text, start)
  const ways: Way[] = start === end ? [] : waysWith(text, start, end)
  // Some readers do not treat a backslash as a slash.
  const backslash = indexIn(text, '\\', at)
  if (backslash === text.length || backslash > end) return ways
  return [...ways, ...waysWith(text, Math.min(backslash, start), indexIn(text, '/', backslash))]
}

function waysWith (text: string, start: number, end: number): Way[] {
  const segment = text.slice(start, end)
  const ways: Way[] = [[segment, end]]
  // `/a;b/c` is `/a` to a reader that cuts at the semicolon, and `/a/c` to one that drops the segment's parameters (RFC 3986 §3.3).
  const semicolon = indexIn(segment, ';')
  if (semicolon < segment.length) ways.push([segment.slice(0, semicolon), end], [segment.slice(0, semicolon), text.length])
  const cut = Math.min(indexIn(segment, '#'), indexIn(segment, '?'))
  if (cut < segment.length) ways.push([segment.slice(0, cut), text.length])
  // Windows file systems remove dots and spaces at the end of a name.
  let length = segment.length
  for (let code = segment.charCodeAt(length - 1); code === DOT || code === SPACE; code = segment.charCodeAt(--length - 1));
  if (length > 0 && length < segment.length) ways.push([segment.slice(0, length), end])
  return ways
}

/** Most readers treat a backslash as a slash. */
function endOfSlashes (text: string, from: number): number {
  let end = from
  for (let code = text.charCodeAt(end); code === SLASH || code === BACKSLASH; code = text.charCodeAt(++end));
  return end
}

function endOfSegment (text: string, start: number): number {
  return Math.min(indexIn(text, '/', start), indexIn(text, '\\', start))
}

/** The index of a character, or the length of the text. */
function indexIn (text: string, character: string, start = 0): number {
  const index = text.indexOf(character, start)
  return index === -1 ? text.length : index
}

function segmentsOf (path: string): string[] {
  return path.split('/').filter((segment) => segment !== '')
}
