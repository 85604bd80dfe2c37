/**
 * Changes a JSON text (RFC 8259) to another value, and leaves the rest of it as people wrote it. Begin with `editJson`.
 */
import { isDeepStrictEqual } from 'node:util'
import { tokenAt } from './json.ts'

/** A value in the text, from `start` up to `end`, with the members of an object or the items of an array. */
interface Node {
  readonly start: number
  readonly end: number
  readonly value: unknown
  readonly parts: readonly Part[]
}

/** A member, which begins with its name, or an item. */
interface Part {
  readonly start: number
  readonly name: string | undefined
  readonly node: Node
}

/** A member or item of the text to come: `index` is its place in the text as it is, if it is there. */
interface Planned {
  readonly index: number | undefined
  readonly name: string | undefined
  readonly value: unknown
}

/** How the text is written. */
interface Layout {
  readonly newline: string
  /** One step of indentation. */
  readonly step: string
  readonly colon: string
  /** On one line: between two members or items, and between braces and members. */
  readonly comma: string
  readonly gap: string
}

/**
 * What stays keeps its place and its bytes. New members come after those that precede them in `value`; else the order of
 * names in `value` does not count.
 *
 * @param text that `readJson` accepts
 * @param value as `JSON.parse` returns it
 * @returns a text of this value
 */
export function editJson (text: string, value: unknown): string {
  const root = nodeAt(text, tokenAt(text, 0).start)
  return text.slice(0, root.start) + edited(text, layoutOf(text, root), root, value, '') + text.slice(root.end)
}

/** Recursive: `readJson` limits the depth. */
function nodeAt (text: string, start: number): Node {
  const { token, end } = tokenAt(text, start)
  if (token !== '{' && token !== '[') return { start, end, value: JSON.parse(token), parts: [] }
  const parts: Part[] = []
  let next = tokenAt(text, end)
  while (next.token !== '}' && next.token !== ']') {
    if (next.token === ',') next = tokenAt(text, next.end)
    const name = token === '{' ? JSON.parse(next.token) as string : undefined
    const node = nodeAt(text, name === undefined ? next.start : tokenAt(text, tokenAt(text, next.end).end).start)
    parts.push({ start: next.start, name, node })
    next = tokenAt(text, node.end)
  }
  const value = token === '{' ? Object.fromEntries(parts.map(({ name, node }) => [name, node.value])) : parts.map(({ node }) => node.value)
  return { start, end: next.end, value, parts }
}

function layoutOf (text: string, { parts: [first] }: Node): Layout {
  const isDense = first !== undefined && text.slice(first.start, first.node.start).endsWith(':')
  return {
    newline: /\r?\n/.exec(text)?.[0] ?? '\n',
    step: /[\r\n]([ \t]+)\S/.exec(text)?.[1] ?? '  ',
    ...isDense ? { colon: ':', comma: ',', gap: '' } : { colon: ': ', comma: ', ', gap: ' ' }
  }
}

/** @param indent of the line that the value begins on; undefined where all has to be on that line */
function edited (text: string, layout: Layout, node: Node, value: unknown, indent: string | undefined): string {
  if (isDeepStrictEqual(node.value, value)) return text.slice(node.start, node.end)
  const planned = node.parts.length > 0 ? plan(node, value) : []
  if (planned.length === 0) return print(layout, value, indent)

  const between = (index: number): string => text.slice(node.parts[index - 1]!.node.end, node.parts[index]!.start)
  const lead = text.slice(node.start + 1, node.parts[0]!.start)
  const inner = /[\r\n]([ \t]*)$/.exec(lead)?.[1]
  const separator = node.parts.length > 1 ? between(node.parts.length - 1) : inner === undefined ? layout.comma : `,${lead}`
  let written = text[node.start]! + lead
  for (const [position, { index, name, value }] of planned.entries()) {
    if (position > 0) written += index === undefined || index === 0 ? separator : between(index)
    written += index === undefined ? printPart(layout, name, value, inner) : text.slice(node.parts[index]!.start, node.parts[index]!.node.start) + edited(text, layout, node.parts[index]!.node, value, inner)
  }
  return written + text.slice(node.parts.at(-1)!.node.end, node.end)
}

/** The members or items of a node when it has another value; none where it becomes empty, or a value of another type. */
function plan ({ value: before, parts }: Node, value: unknown): readonly Planned[] {
  if (Array.isArray(before)) return Array.isArray(value) ? planItems(before, value) : []
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return []
  const values = new Map(Object.entries(value))
  const indexes = new Map(parts.map(({ name }, index) => [name, index]))
  /** By the name that they come after. */
  const added = new Map<string | undefined, Planned[]>()
  let after: string | undefined
  for (const [name, value] of values) {
    if (indexes.has(name)) {
      after = name
      continue
    }
    if (!added.has(after)) added.set(after, [])
    added.get(after)!.push({ index: undefined, name, value })
  }
  const kept = parts.filter(({ name }) => values.has(name!))
  return [undefined, ...kept].flatMap((part) => [
    ...part === undefined ? [] : [{ index: indexes.get(part.name), name: part.name, value: values.get(part.name!) }],
    ...added.get(part?.name) ?? []
  ])
}

/** Items have no names: what differs is between those that are the same at the beginning and at the end. */
function planItems (before: readonly unknown[], after: readonly unknown[]): readonly Planned[] {
  const shorter = Math.min(before.length, after.length)
  let begin = 0
  while (begin < shorter && isDeepStrictEqual(before[begin], after[begin])) begin++
  let end = 0
  while (end < shorter - begin && isDeepStrictEqual(before.at(-1 - end), after.at(-1 - end))) end++
  return after.map((value, place) => {
    const index = place < after.length - end ? place : place - after.length + before.length
    return { index: place < after.length - end && place >= before.length - end ? undefined : index, name: undefined, value }
  })
}

function printPart (layout: Layout, name: string | undefined, value: unknown, indent: string | undefined): string {
  return name === undefined ? print(layout, value, indent) : `${JSON.stringify(name)}${layout.colon}${print(layout, value, indent)}`
}

function print (layout: Layout, value: unknown, indent: string | undefined): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const [begin, end] = Array.isArray(value) ? '[]' : '{}'
  const inner = indent === undefined ? undefined : indent + layout.step
  const parts = Array.isArray(value) ? value.map((item) => print(layout, item, inner)) : Object.entries(value).map(([name, part]) => printPart(layout, name, part, inner))
  if (parts.length === 0) return `${begin}${end}`
  if (inner === undefined) {
    const gap = begin === '{' ? layout.gap : ''
    return `${begin}${gap}${parts.join(layout.comma)}${gap}${end}`
  }
  const line = layout.newline + inner
  return `${begin}${line}${parts.join(`,${line}`)}${layout.newline}${indent}${end}`
}
