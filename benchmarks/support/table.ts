/**
 * Results as people read them.
 */
import type { Estimate } from './statistics.ts'

export interface Table {
  readonly title: string
  readonly headings: readonly string[]
  readonly rows: ReadonlyArray<readonly string[]>
}

export interface Measured {
  readonly what: string
  readonly value: Estimate
  /** What the project allows itself; without one the row is there to compare with. */
  readonly limit?: number
}

/** A table of values in one unit, each beside its limit. */
export function againstLimits (title: string, unit: string, digits: number, measured: readonly Measured[]): Table {
  return {
    title,
    headings: ['', unit, 'spread', 'limit', 'holds'],
    rows: measured.map(({ what, value, limit }) => [
      what,
      value.median.toFixed(digits),
      spreadOf(value, digits),
      limit === undefined ? '' : `≤ ${limit}`,
      verdictOn(value.median, limit)
    ])
  }
}

export function spreadOf ({ low, high }: Estimate, digits: number): string {
  return `${low.toFixed(digits)} … ${high.toFixed(digits)}`
}

export function verdictOn (value: number, limit: number | undefined): string {
  if (limit === undefined) return ''
  return value <= limit ? 'yes' : 'NO'
}

/** Aligned, the first column to the left and the others to the right. */
export function format ({ title, headings, rows }: Table): string {
  const lines = [headings, ...rows]
  const widths = headings.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  const text = lines.map((line) => line.map((cell, column) => column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)).join('  ').trimEnd())
  return `\n${title}\n\n${text.map((line) => `  ${line}\n`).join('')}`
}
