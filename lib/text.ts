/** Text from outside, for a log or a terminal, where some characters are commands. */

/**
 * Control characters, those that change the direction of text, and line separators are spelled out.
 *
 * @param longest characters: what is longer is cut, as a log is not its author's to fill
 */
export function printable (text: string, longest: number): string {
  const spelled = text.slice(0, longest + 1).replaceAll(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`)
  // Not half of a character that UTF-16 writes as two.
  return spelled.length > longest ? `${spelled.slice(0, longest).replace(/[\uD800-\uDBFF]$/, '')}…` : spelled
}
