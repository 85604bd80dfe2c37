/**
 * The route table as people read it.
 */
import type { RouteSecurity } from '../../types/index.ts'

const HEADINGS = ['METHODS', 'URL', 'KIND', 'DECLARED', 'LEVEL', 'SOURCE']

/** An aligned table, a line a registration. */
export function print (rows: readonly RouteSecurity[]): string {
  const lines = [HEADINGS, ...rows.map(cells)]
  const widths = HEADINGS.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  return lines
    .map((line) => line.map((cell, column) => cell.padEnd(widths[column]!)).join('  ').trimEnd())
    .join('\n') + '\n'
}

/** A registration in few words: `GET, HEAD /shop`. */
export function nameOf ({ methods, url }: Pick<RouteSecurity, 'methods' | 'url'>): string {
  return `${methods.join(', ')} ${url}`
}

function cells ({ methods, url, constraints, kind, declared, level, source }: RouteSecurity): string[] {
  return [methods.join(', '), `${url}${constraints === undefined ? '' : ` ${JSON.stringify(constraints)}`}`, kind ?? 'undeclared', declared, level, source]
}
