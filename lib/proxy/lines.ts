/**
 * What a trusted proxy says, line by line. Node joins the lines of a header, or drops all but the first: then nobody
 * could tell what the proxy wrote from what it passed on.
 */

/** Headers by their names, in lower case. Spellings with `_` are other headers, which nothing here believes. */
export interface Lines {
  /** In the order of the names; `undefined`: there is none. */
  readonly values: ReadonlyArray<string | undefined>
  /** The header that is there twice. */
  readonly repeated: string | undefined
  /** The header that `Connection` names: it is meant for the next hop alone (RFC 9110 §7.6.1), and its sender may be anybody. */
  readonly hopByHop: string | undefined
}

export function createReadLines (names: readonly string[]): (rawHeaders: readonly string[]) => Lines {
  // Indexed by length: nearly all other headers are out by theirs.
  const hasLength: boolean[] = []
  for (const { length } of [...names, 'connection']) hasLength[length] = true
  const most = hasLength.length

  return function readLines (rawHeaders) {
    const values: Array<string | undefined> = [undefined, undefined]
    let repeated: string | undefined
    let connection: string | undefined
    for (let i = 0; i < rawHeaders.length; i += 2) {
      const spelled = rawHeaders[i]!
      if (spelled.length >= most || hasLength[spelled.length] !== true) continue
      const name = spelled.toLowerCase()
      const value = rawHeaders[i + 1]!
      if (name === 'connection') {
        connection = connection === undefined ? value : `${connection},${value}`
        continue
      }
      const index = names.indexOf(name)
      if (index === -1) continue
      if (values[index] !== undefined) repeated = name
      values[index] = value
    }
    return { values, repeated, hopByHop: connection === undefined ? undefined : names.find((name) => isNamedIn(connection, name)) }
  }
}

/** Whether a Connection header names another one. */
export function isNamedIn (connection: string | undefined, name: string): boolean {
  // Nearly all are `close`, `keep-alive` or `upgrade`.
  if (connection === undefined || connection.length < name.length) return false
  return connection.toLowerCase().split(',').some((option) => option.trim() === name)
}
