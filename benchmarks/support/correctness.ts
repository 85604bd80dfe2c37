/**
 * A fast wrong answer is no result.
 */

export class WrongAnswer extends Error {}

export function requireAnswer (what: string, actual: unknown, expected: unknown): void {
  if (actual !== expected) throw new WrongAnswer(`wrong answer: ${what}: ${String(actual)} instead of ${String(expected)}`)
}
