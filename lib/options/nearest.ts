/** What was probably meant by a name that is not known. */

/** Longer names are nobody's slip, and comparing them takes long. */
const LONGEST = 64
/** Shorter ones begin or end too many others. */
const SHORTEST_PART = 4

/** The most similar of some names, or `undefined` where none is similar. */
export function nearest (name: string, known: readonly string[]): string | undefined {
  const [best] = known
    .map((other) => ({ other, edits: differenceOf(name.toLowerCase(), other.toLowerCase()) }))
    .sort((a, b) => a.edits - b.edits)
  return best === undefined || best.edits === Infinity ? undefined : best.other
}

/** Edits, or infinitely many where it is another word. */
function differenceOf (a: string, b: string): number {
  if (a.length > LONGEST) return Infinity
  const most = Math.max(1, Math.floor(a.length / 3))
  const edits = editsBetween(a, b)
  if (edits <= most) return edits
  const [short, long] = a.length < b.length ? [a, b] : [b, a]
  return short.length >= SHORTEST_PART && (long.startsWith(short) || long.endsWith(short)) ? edits : Infinity
}

/** Letters to put in, to leave out, to replace, and pairs to change about: the optimal string alignment distance. */
function editsBetween (a: string, b: string): number {
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row++) {
    const current = [row]
    for (let column = 1; column <= b.length; column++) {
      const isSame = a[row - 1] === b[column - 1]
      const isSwapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]
      current[column] = Math.min(
        last[column]! + 1,
        current[column - 1]! + 1,
        last[column - 1]! + (isSame ? 0 : 1),
        isSwapped ? before[column - 2]! + 1 : Infinity
      )
    }
    [before, last] = [last, current]
  }
  return last[b.length]!
}
