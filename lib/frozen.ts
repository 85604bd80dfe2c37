/**
 * A deeply frozen copy of a JSON value; its depth has to be limited. Parts that are undefined stay.
 */
export function frozenCopy<Value> (value: Value): Value {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return Object.freeze(value.map(frozenCopy)) as Value
  return Object.freeze(Object.fromEntries(Object.entries(value).map(([name, part]) => [name, frozenCopy(part)]))) as Value
}
