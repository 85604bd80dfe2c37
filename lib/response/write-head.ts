/**
 * `writeHead` of a response, replaced: what it is given is looked at after every hook and plugin.
 */
import type { OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from 'node:http'

export type WriteHead = (this: ServerResponse, statusCode: number, reason?: string | OutgoingHttpHeaders, headers?: OutgoingHttpHeaders) => ServerResponse

/** What Node takes: an object, names and values in one list or in pairs, `null`; or a reason. */
export type GivenHeaders = OutgoingHttpHeaders | readonly unknown[] | string | null | undefined

/** Wraps a method of many objects: one wrapper for each method there is, since nearly all have that of Node. */
export function createWrap<Method extends object> (wrap: (inner: Method) => Method): (inner: Method) => Method {
  const wrappers = new WeakMap<Method, Method>()
  let latest: { readonly inner: Method, readonly wrapper: Method } | undefined

  function wrapperOf (inner: Method): Method {
    const wrapper = wrappers.get(inner) ?? wrap(inner)
    wrappers.set(inner, wrapper)
    return wrapper
  }

  return function wrapped (inner) {
    if (latest?.inner !== inner) latest = { inner, wrapper: wrapperOf(inner) }
    return latest.wrapper
  }
}

export function objectOf (given: GivenHeaders): OutgoingHttpHeaders {
  if (!Array.isArray(given)) return typeof given === 'object' && given !== null ? given as OutgoingHttpHeaders : {}
  // Without a prototype, a header may have any name.
  const headers = Object.create(null) as OutgoingHttpHeaders
  // Of pairs, a value may be a list, as it may in one.
  const list = (Array.isArray(given[0]) ? given.flat() : given) as OutgoingHttpHeader[]
  for (let i = 0; i < list.length; i += 2) {
    const [name, value] = [String(list[i]), list[i + 1]!]
    headers[name] = Object.hasOwn(headers, name) ? [headers[name]!, value].flat().map(String) : value
  }
  return headers
}
