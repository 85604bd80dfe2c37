/**
 * Prefixes by whole path segments: `/shop` covers `/shop` and `/shop/x`, not `/shopping`.
 */

interface Node<Entry> {
  readonly children: Map<string, Node<Entry>>
  /** For a parameter in a registered prefix: any segment goes. */
  any?: Node<Entry>
  entry?: Entry
}

export class PrefixTree<Entry> {
  readonly #root: Node<Entry> = { children: new Map() }

  /** Sets what a prefix says. A segment for which `isParameter` is true stands for any segment. */
  set (prefix: string, entry: Entry, isParameter: (segment: string) => boolean = () => false): void {
    let node = this.#root
    for (const segment of segmentsOf(prefix)) {
      if (isParameter(segment)) {
        node = node.any ??= { children: new Map() }
        continue
      }
      let child = node.children.get(segment)
      if (child === undefined) node.children.set(segment, child = { children: new Map() })
      node = child
    }
    node.entry = entry
  }

  /** What the prefixes that cover a path say, shortest first. */
  covering (path: string): Entry[] {
    const entries: Entry[] = []
    let nodes = [this.#root]
    collect(nodes, entries)
    for (const segment of segmentsOf(path)) {
      nodes = nodes.flatMap(({ children, any }) => [children.get(segment), any].filter((node) => node !== undefined))
      if (nodes.length === 0) break
      collect(nodes, entries)
    }
    return entries
  }
}

function collect<Entry> (nodes: ReadonlyArray<Node<Entry>>, entries: Entry[]): void {
  for (const { entry } of nodes) if (entry !== undefined) entries.push(entry)
}

function segmentsOf (path: string): string[] {
  return path.split('/').filter((segment) => segment !== '')
}
