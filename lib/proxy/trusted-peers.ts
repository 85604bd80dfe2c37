/**
 * Which peers are proxies of ours. Only what a trusted one says counts; anybody can type a forwarded header.
 */
import { isIP, type Server, type Socket } from 'node:net'
// Fastify has loaded it already.
import proxyAddr from '@fastify/proxy-addr'

const WORDS: ReadonlySet<string> = new Set(['loopback', 'linklocal', 'uniquelocal', 'unix'])

/** Whether the peer at the other end of a socket is trusted. */
export type PeerTrust = (socket: Socket) => boolean

/**
 * Compiles `proxy.trust`.
 *
 * @param trust IP addresses, CIDR ranges, the words of `@fastify/proxy-addr`, and `'unix'`
 * @throws TypeError for anything else
 */
export function compileTrust (trust: string | readonly string[]): PeerTrust {
  const words = typeof trust === 'string' ? [trust] : trust
  if (words.length === 0) throw new TypeError('nobody is named')
  for (const word of words) {
    const [address = '', length = '128'] = word.split('/')
    if (!WORDS.has(word) && (isIP(address) === 0 || /^0\d/.test(length))) throw new TypeError(`${word} is neither an address nor a range`)
    // All of IPv4 in other words.
    if (/^::ffff:/i.test(address) && Number(length) <= 96) throw new TypeError(`invalid range on address: ${word}`)
  }
  const trustsUnix = words.includes('unix')
  const trustsAddress = proxyAddr.compile(words.filter((word) => word !== 'unix'))
  // Who a peer is does not change while it is connected, unlike what it says. On the socket it is found fastest; by plain
  // assignment, which the proxy objects of HTTP/2 pass on to it.
  const kTrusted = Symbol('fastify-http-security trusted')
  type Known = Socket & { [kTrusted]?: boolean }

  return function trusts (socket: Known) {
    const known = socket[kTrusted]
    if (known !== undefined) return known
    const { remoteAddress } = socket
    // A client that has already gone has no address either, so the listener tells who came by a unix socket.
    if (remoteAddress === undefined) return trustsUnix && isFromUnixListener(socket)
    return (socket[kTrusted] = trustsAddress(remoteAddress, 0))
  }
}

/** `server` is where a socket was accepted; a path is the address of no other kind of listener. */
function isFromUnixListener (socket: Socket): boolean {
  const { server } = socket as Socket & { server?: Server }
  return typeof server?.address() === 'string'
}
