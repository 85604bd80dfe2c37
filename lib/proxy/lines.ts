/**
 * What a trusted proxy says, line by line. Node joins the lines of a header, or drops all but the first: then nobody
 * could tell what the proxy wrote from what it passed on.
 */

/** Of two headers; spellings with `_` are other headers, which nothing here believes. */
export interface RawHeaders {
  /** `undefined`: there is none. */
  readonly certificate: string | undefined
  /** What comes beside it: its verdict, or its chain. */
  readonly companion: string | undefined
  /** The header that is there twice. */
  readonly repeated: string | undefined
}

/** @param names in lower case: that of the certificate and, where there is one, that of what comes beside it */
export function createReadRawHeaders ([certificateName, companionName]: readonly [string, string?]): (rawHeaders: readonly string[]) => RawHeaders {
  const isCertificate = createIsNamed(certificateName)
  const isCompanion = companionName === undefined ? () => false : createIsNamed(companionName)

  return function readRawHeaders (rawHeaders) {
    let certificate: string | undefined
    let companion: string | undefined
    let repeated: string | undefined
    for (let i = 0; i < rawHeaders.length; i += 2) {
      const spelled = rawHeaders[i]!
      if (isCertificate(spelled)) {
        if (certificate !== undefined) repeated = certificateName
        certificate = rawHeaders[i + 1]
      } else if (isCompanion(spelled)) {
        if (companion !== undefined) repeated = companionName
        companion = rawHeaders[i + 1]
      }
    }
    return { certificate, companion, repeated }
  }
}

/**
 * Whether a header has that name, in whatever case. Nearly all that have another one are out by their length or their
 * last letter, and a proxy always spells a name the same: to make a string in lower case takes longer than all of this.
 */
function createIsNamed (name: string): (spelled: string) => boolean {
  const { length } = name
  const last = length - 1
  const lastLetter = name.charCodeAt(last) | 32
  let latest = name
  return (spelled) => {
    if (spelled.length !== length || (spelled.charCodeAt(last) | 32) !== lastLetter) return false
    if (spelled === latest) return true
    if (spelled.toLowerCase() !== name) return false
    latest = spelled
    return true
  }
}

/** Whether a Connection header names another one. */
export function isNamedIn (connection: string | undefined, name: string): boolean {
  // Nearly all are `close`, `keep-alive` or `upgrade`.
  if (connection === undefined || connection.length < name.length) return false
  return connection.toLowerCase().split(',').some((option) => option.trim() === name)
}
