/**
 * Units of lib/trust, fetch.ts and cache-directory.ts: what URLs in certificates lead to, fetched from servers and name
 * servers that mean ill; and what is kept of it.
 */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import https from 'node:https'
import net, { type Socket } from 'node:net'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { Backoff, Destinations, Fetcher, type FetcherOptions, type FetchOptions, publicUrl } from '../lib/trust/fetch.ts'
import { openCacheDirectory } from '../lib/trust/cache-directory.ts'
import { createOcspRequest, MOST_OCSP_OCTETS, OCSP_REQUEST, OCSP_RESPONSE, readOcspResponse, responderOf } from '../lib/x509/ocsp.ts'
import { extension, make, makeList, names, oid, seq } from './fixtures/chains.ts'
import { serveNames } from './fixtures/name-server.ts'
import { type Listening, listening } from './fixtures/network.ts'
import { withoutOpenssl } from './fixtures/openssl.ts'
import { plainNode, typescript, run } from './fixtures/programs.ts'
import { askOpensslOcsp } from './fixtures/ocsp.ts'
import { authority, issueServer } from './fixtures/pki.ts'
import { HOUR } from './fixtures/time.ts'
import { parseCertificate } from './fixtures/x509.ts'

const LIST = 'application/pkix-crl'
const INVALID = { code: 'FST_HTTP_SECURITY_INVALID_OPTIONS' }

/** A server that speaks HTTP. */
const serveAnswer = (t: Test, answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<Listening> => listening(t, http.createServer(answer))
/** One that may not. */
const serveRaw = (t: Test, answer: (socket: Socket) => void): Promise<Listening> => listening(t, net.createServer((socket) => {
  socket.on('error', () => {})
  socket.once('data', () => answer(socket))
}))

const options = (more: Partial<FetchOptions> = {}): FetchOptions => ({ owner: 'partners', accept: LIST, most: 1000, ...more })
const fetcherFor = ({ port }: { port: number }, more: FetcherOptions = {}): Fetcher => new Fetcher({ allow: [`127.0.0.1:${port}`], ...more })
const messageOf = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'it was fetched', ({ message }: Error) => message)

t.test('a CRL is fetched by one plain request, and the connection is closed', async (t) => {
  const requests: IncomingMessage[] = []
  const server = await serveAnswer(t, (request, response) => {
    requests.push(request)
    response.writeHead(200, { 'content-type': `${LIST}; charset=binary` }).end('the list')
  })
  const bytes = await fetcherFor(server).fetch(`${server.url}/a/b.crl?c=d#e`, options({ accept: `application/pkix-crl, ${OCSP_RESPONSE}` }))
  t.equal(bytes.toString(), 'the list')
  t.match(requests, [{ method: 'GET', url: '/a/b.crl?c=d', headers: { host: `127.0.0.1:${server.port}`, accept: `application/pkix-crl, ${OCSP_RESPONSE}`, 'accept-encoding': 'identity', connection: 'close' } }])
  t.strictSame(Object.keys(requests[0]!.headers).sort(), ['accept', 'accept-encoding', 'connection', 'host', 'user-agent'], 'and nothing else')
})

t.test('a fetched CRL of any allowed size has the bytes that were sent', async (t) => {
  const list = makeList(make({ ca: true }))
  for (const [title, answer] of Object.entries<(response: ServerResponse) => void>({
    'with a length': (response) => { response.writeHead(200, { 'content-length': list.length }).end(list) },
    'with chunks, as unknown octets': (response) => {
      response.writeHead(200, { 'content-type': 'Application/Octet-Stream', 'content-encoding': 'Identity' })
      for (const octet of list) response.write(Buffer.of(octet))
      response.end()
    }
  })) {
    const server = await serveAnswer(t, (_, response) => answer(response))
    t.ok(list.equals(await fetcherFor(server).fetch(server.url, options({ most: list.length }))), title)
  }
  const old = await serveRaw(t, (socket) => { socket.end(Buffer.concat([Buffer.from('HTTP/1.0 200 OK\r\n\r\n'), list])) })
  t.ok(list.equals(await fetcherFor(old).fetch(old.url, options())), 'of HTTP/1.0')
})

t.test('an OCSP responder of the openssl program is asked over HTTP', { skip: withoutOpenssl }, async (t) => {
  const issuer = make({ ca: true })
  const bodies: Buffer[] = []
  const server = await serveAnswer(t, (request, response) => {
    const pieces: Buffer[] = []
    request.on('data', (piece: Buffer) => pieces.push(piece)).on('end', () => {
      bodies.push(Buffer.concat(pieces))
      t.match(request, { method: 'POST', url: '/ocsp', headers: { 'content-type': OCSP_REQUEST, 'content-length': String(bodies[0]!.length) } })
      response.setHeader('content-type', OCSP_RESPONSE).end(askOpensslOcsp(bodies[0]!, { issuer, signer: issuer, valid: [leaf], options: ['-nmin', '10'] }))
    })
  })
  const leaf = make({ issuer, extensions: { access: extension('1.3.6.1.5.5.7.1.1', seq(seq(oid('1.3.6.1.5.5.7.48.1'), names.uri(`${server.url}/ocsp`)))) } })
  const [certificate, nonce, now] = [parseCertificate(leaf.certificate), Buffer.alloc(32, 7), Date.now()]
  const request = createOcspRequest(certificate, parseCertificate(issuer.certificate), nonce)
  const response = await fetcherFor(server).fetch(responderOf(certificate)!, options({ accept: OCSP_RESPONSE, most: MOST_OCSP_OCTETS, body: { type: OCSP_REQUEST, bytes: request } }))
  t.ok(bodies[0]!.equals(request))
  t.equal(readOcspResponse(response, { certificate, issuer: parseCertificate(issuer.certificate), nonce, now }).status, 'good')
})

t.test('URLs in certificates lead to no private address', async (t) => {
  const inside = [
    '0.0.0.0', '0.1.2.3', '10.0.0.1', '10.255.255.255', '100.64.0.1', '100.127.255.255', '127.0.0.1', '127.255.255.254', '169.254.169.254', '172.16.0.1', '172.31.255.255',
    '192.0.0.192', '192.0.2.1', '192.88.99.1', '192.168.0.1', '198.18.0.1', '198.19.255.255', '198.51.100.1', '203.0.113.1', '224.0.0.1', '239.255.255.255', '240.0.0.1', '255.255.255.255', '168.63.129.16',
    '::', '::1', '::ffff:127.0.0.1', '::ffff:8.8.8.8', '::127.0.0.1', '::8.8.8.8', '::ffff:0:10.0.0.1', '64:ff9b::10.0.0.1', '64:ff9b::808:808', '64:ff9b:1::1', '100::1', '1fff::1',
    '2001::1', '2001:0:a00:1::', '2001:2::1', '2001:10::1', '2001:20::1', '2001:1ff:ffff::1', '2001:db8::1', '2002:7f00:1::', '2002:a00:1::1', '3fff::1', '3fff:fff::1', '4000::1', '5f00::1',
    'fc00::1', 'fd12:3456::1', 'fe80::1', 'fe80::1%lo', 'febf::1', 'fec0::1', 'ff02::1', 'ffff::1'
  ]
  const outside = ['1.1.1.1', '8.8.8.8', '9.255.255.255', '11.0.0.0', '100.63.255.255', '100.128.0.0', '172.15.255.255', '172.32.0.0', '192.0.1.1', '192.167.255.255', '198.17.255.255', '198.20.0.0', '223.255.255.255', '2000::1', '2001:200::1', '2003::1', '2606:4700::1111', '2a00:1450::1', '3ffe::1']
  const none = ['', 'localhost', '127.1', '1.2.3', '0x7f000001', '[::1]', '1.1.1.1 ', 'fe80::1%']
  const destinations = new Destinations([])
  for (const address of [...inside, ...none]) t.notOk(destinations.hasAddress(address, 80), address)
  for (const address of outside) t.ok(destinations.hasAddress(address, 443), address)
  t.notOk(destinations.hasAddress('8.8.8.8', 8080), 'another port')

  t.test('URLs in certificates lead to no private address, whatever its spelling', async (t) => {
    const { port, connections } = await serveAnswer(t, (_, response) => response.end('secret'))
    // The port is that of an allowed host, so that it is the address alone that is refused.
    const fetcher = new Fetcher({ allow: [`other.test:${port}`] })
    for (const [host, address] of Object.entries({
      '127.0.0.1': '127.0.0.1',
      127.1: '127.0.0.1',
      2130706433: '127.0.0.1',
      '0x7f.0.0.1': '127.0.0.1',
      '0177.0.0.1': '127.0.0.1',
      '%31%32%37.0.0.1': '127.0.0.1',
      '１２７.0.0.1': '127.0.0.1',
      0: '0.0.0.0',
      '[::]': '::',
      '[::1]': '::1',
      '[::ffff:127.0.0.1]': '::ffff:7f00:1',
      '[64:ff9b::7f00:1]': '64:ff9b::7f00:1',
      '169.254.169.254': '169.254.169.254'
    })) t.match(await messageOf(fetcher.fetch(`http://${host}:${port}/x?secret`, options())), new RegExp(`^http://[^ ]*/x: ${address.replaceAll('.', '\\.')} is not a public address$`), host)
    t.equal(await messageOf(fetcher.fetch('http://127.0.0.1/', options())), 'http://127.0.0.1/: 127.0.0.1 is not a public address', 'at port 80')
    t.equal(await messageOf(fetcher.fetch('https://[fd00::1]/', options())), 'https://[fd00::1]/: fd00::1 is not a public address', 'at port 443')
    t.equal(connections.length, 0)
  })

  t.test('private addresses that are allowed are fetched from, at the allowed ports', (t) => {
    const allowed = new Destinations(['10.1.0.0/16', '10.2.0.1:8080', '[fd00::/8]:8080', 'fd01::1', 'fe80::/10', '[::1]', 'OCSP.internal:8080', 'list.internal'])
    for (const [address, port] of [['10.1.2.3', 80], ['10.1.2.3', 443], ['10.2.0.1', 8080], ['fd12::1', 8080], ['fd01::1', 443], ['fe80::1', 80], ['::1', 80], ['8.8.8.8', 80]] as const) t.ok(allowed.hasAddress(address, port), address)
    for (const [address, port] of [['10.2.2.3', 80], ['10.1.2.3', 8080], ['::ffff:10.1.2.3', 80], ['10.2.0.1', 80], ['10.2.0.2', 8080], ['fd12::1', 80], ['::1', 8080], ['8.8.8.8', 8080]] as const) t.notOk(allowed.hasAddress(address, port), address)
    t.ok(allowed.hasHost('ocsp.internal', 8080))
    t.ok(allowed.hasHost('list.internal', 80) && allowed.hasHost('list.internal', 443))
    t.notOk(allowed.hasHost('ocsp.internal', 80) || allowed.hasHost('a.ocsp.internal', 8080) || allowed.hasHost('10.2.0.1', 8080))
    t.ok(allowed.hasPort(80) && allowed.hasPort(443) && allowed.hasPort(8080))
    t.notOk(allowed.hasPort(22))
    t.end()
  })

  t.test('an address that cannot be allowed is an error', (t) => {
    for (const entry of ['', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '10.0.0/8', 'fd00::/129', '[fd00::/129]:80', '::1/x', '[10.0.0.1', 'http://a.test', 'a.test/path', 'user@a.test:80', 'a.test:', 'a.test:port', '127.1:80', '*', '*.a.test:80', 'b\u00fccher.test', 'a b:80', ':80', '[a.test]:80']) {
      t.throws(() => new Destinations([entry]), { ...INVALID, message: /^'.*' cannot be allowed: it must be an address or a network/ }, JSON.stringify(entry))
    }
    t.throws(() => new Fetcher({ allow: ['/'] }), INVALID)
    t.end()
  })
})

t.test('host names in URLs of certificates', async (t) => {
  const server = await serveAnswer(t, (_, response) => response.end('list'))
  const namesOf = (addresses: Record<string, (times: number) => readonly string[] | undefined>) => serveNames(t, (name, times) => addresses[name] === undefined ? [] : addresses[name](times))
  const V6 = '2606:4700:0:0:0:0:0:1'

  t.test('a host name in a URL is resolved once a connection, so that it cannot lead elsewhere the next time', async (t) => {
    const { resolver, asked } = await namesOf({ 'rebind.test': (times) => [['127.0.0.1', '127.0.0.2'][times - 1]!] })
    const fetcher = fetcherFor(server, { resolver })
    const url = `http://rebind.test:${server.port}/`
    t.equal(String(await fetcher.fetch(url, options())), 'list')
    t.strictSame(asked.sort(), ['A rebind.test', 'AAAA rebind.test'], 'what was checked is connected to')
    t.equal(await messageOf(fetcher.fetch(url, options())), `http://rebind.test:${server.port}/: 127.0.0.2 is not a public address`)
    t.equal(asked.length, 4)
    t.equal(server.connections.length, 1)
  })

  t.test('a host name with several addresses is fetched from at the allowed ones', async (t) => {
    const other = await listening(t, net.createServer(), '127.0.0.2')
    const { resolver } = await namesOf({ 'both.test': () => ['127.0.0.2', '127.0.0.1', '0:0:0:0:0:0:0:1'] })
    const fetcher = new Fetcher({ allow: [`127.0.0.1:${server.port}`, `127.0.0.1:${other.port}`], resolver })
    t.equal(String(await fetcher.fetch(`http://both.test:${server.port}/`, options())), 'list')
    t.match(await messageOf(fetcher.fetch(`http://both.test:${other.port}/`, options())), 'ECONNREFUSED')
    t.equal(other.connections.length, 0)

    net.setDefaultAutoSelectFamily(false)
    t.teardown(() => net.setDefaultAutoSelectFamily(true))
    t.equal(String(await fetcher.fetch(`http://both.test:${server.port}/`, options())), 'list', 'where Node tries one alone')
  })

  t.test('a host name with private addresses or none is not fetched from', async (t) => {
    const { resolver } = await namesOf({
      'mapped.test': () => ['0:0:0:0:0:ffff:7f00:1'],
      'nat64.test': () => ['64:ff9b:0:0:0:0:7f00:1'],
      'silent.test': () => undefined,
      'other.test': () => [V6]
    })
    const fetcher = fetcherFor(server, { resolver })
    const ask = (host: string): Promise<string> => messageOf(fetcher.fetch(`http://${host}:${server.port}/`, options()))
    t.match(await ask('mapped.test'), /: ::ffff:127\.0\.0\.1 is not a public address$/)
    t.match(await ask('nat64.test'), /: 64:ff9b::7f00:1 is not a public address$/)
    t.match(await ask('other.test'), /: 2606:4700::1 is not a public address$/, 'a public one, at a port that is not allowed there')
    t.match(await ask('none.test'), /: query\w+ ENOTFOUND none\.test$/)
    t.match(await ask('silent.test'), /: query\w+ ETIMEOUT silent\.test$/)
    const empty = { resolve4: async () => [], resolve6: async () => [] } as unknown as FetcherOptions['resolver']
    t.match(await messageOf(fetcherFor(server, { resolver: empty }).fetch(`http://empty.test:${server.port}/`, options())), /: empty\.test has no address$/)
    t.match(await ask('localhost'), /: query\w+ ENOTFOUND localhost$/)
    const label = 'a'.repeat(64)
    t.match(await messageOf(fetcherFor(server).fetch(`http://${label}.test:${server.port}/`, options())), /: query\w+ EBADNAME a{64}\.test$/, 'to the system\'s own resolver')
    t.equal(server.connections.length, 3, 'those that were allowed')
  })

  t.test('a host name that no name server answers is not waited for', async (t) => {
    const { resolver } = await namesOf({ 'silent.test': () => undefined })
    t.match(await messageOf(fetcherFor(server, { resolver }).fetch(`http://silent.test:${server.port}/`, options({ timeout: 50 }))), /: it took more than 0\.05 s$/)
  })

  t.test('a host name that is allowed is resolved by the system', async (t) => {
    const { resolver, asked } = await namesOf({})
    const fetcher = new Fetcher({ allow: [`localhost:${server.port}`], resolver })
    t.equal(String(await fetcher.fetch(`http://LOCALHOST:${server.port}/`, options())), 'list')
    t.strictSame(asked, [])
  })
})

t.test('a URL that is not plain http or https is not fetched, and no secret of it is told', async (t) => {
  const { port, connections } = await serveAnswer(t, (_, response) => response.end())
  const fetcher = fetcherFor({ port })
  for (const [url, message] of [
    ['ldap://127.0.0.1/cn=x?secret', 'ldap://127.0.0.1/cn=x: only http and https URLs are fetched'],
    ['file:///etc/passwd', 'file:///etc/passwd: only http and https URLs are fetched'],
    ['secret', 'an unreadable URL: only http and https URLs are fetched'],
    [`http://user@127.0.0.1:${port}/?secret`, `http://127.0.0.1:${port}/: it has a user name or a password`],
    [`http://:secret@127.0.0.1:${port}/#secret`, `http://127.0.0.1:${port}/: it has a user name or a password`],
    ['http://127.0.0.1:22/', 'http://127.0.0.1:22/: port 22 is not allowed'],
    ['https://pki.test:8443/?secret', 'https://pki.test:8443/: port 8443 is not allowed'],
    [`http://127.0.0.1:${port}/${'x'.repeat(2048)}`, `http://127.0.0.1:${port}/${'x'.repeat(200 - `http://127.0.0.1:${port}/`.length)}…: it has more than 2048 characters`]
  ] as const) t.equal(await messageOf(fetcher.fetch(url, options())), message)
  t.equal(connections.length, 0)
  t.equal(publicUrl('https://user:secret@Pki.test/a b\u202e?secret#secret'), 'https://pki.test/a%20b%E2%80%AE')
})

t.test('an HTTP answer that is no CRL is refused', async (t) => {
  const trap = await serveAnswer(t, (_, response) => response.end('trap'))
  const endless = (socket: Socket, piece: string): void => {
    const write = (): void => { while (socket.writable && socket.write(piece)); }
    socket.on('drain', write)
    write()
  }
  const dripping = (socket: Socket, piece: string): void => {
    const timer = setInterval(() => { socket.write(piece) }, 5)
    socket.on('close', () => { clearInterval(timer) })
  }
  const head = (...lines: string[]): string => ['HTTP/1.1 200 OK', ...lines, '\r\n'].join('\r\n')
  const rows: Record<string, readonly [message: string | RegExp, answer: (socket: Socket) => void]> = {
    'a redirect': ['it redirects (status 302), which is not followed', (socket) => socket.end(`HTTP/1.1 302 Found\r\nLocation: ${trap.url}/\r\nContent-Length: 0\r\n\r\n`)],
    'a redirect of another kind': ['it redirects (status 308), which is not followed', (socket) => socket.end(`HTTP/1.1 308 Permanent Redirect\r\nLocation: ${trap.url}/\r\nContent-Length: 0\r\n\r\n`)],
    'nothing new': ['it redirects (status 304), which is not followed', (socket) => socket.end('HTTP/1.1 304 Not Modified\r\n\r\n')],
    'an error': ['it answers with status 404', (socket) => socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nlist')],
    'a part': ['it answers with status 206', (socket) => socket.end('HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\n\r\nlist')],
    'another protocol': ['it closes the connection without an answer', (socket) => socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n')],
    'a page': ["its content type is 'text/html; charset=utf-8', not application/pkix-crl", (socket) => socket.end(head('Content-Type: text/html; charset=utf-8', 'Content-Length: 4') + 'list')],
    'no type at all': ["its content type is '', not application/pkix-crl", (socket) => socket.end(head('Content-Type:', 'Content-Length: 4') + 'list')],
    'what has a coding': ["its content coding is 'gzip'", (socket) => socket.end(head('Content-Encoding: gzip', 'Content-Length: 4') + 'list')],
    'what says that it is too long': ['it has more than 1000 bytes', (socket) => socket.write(head('Content-Length: 1001') + 'list')],
    'what says that it is endless': ['it has more than 1000 bytes', (socket) => socket.write(head('Content-Length: 999999999999999') + 'list')],
    'what is endless': ['it has more than 1000 bytes', (socket) => endless(socket.on('error', () => {}), head() + 'x'.repeat(10_000))],
    'what is endless in chunks': ['it has more than 1000 bytes', (socket) => { socket.write(head('Transfer-Encoding: chunked')); endless(socket, '1\r\nx\r\n'.repeat(1000)) }],
    'endless headers': [/^Parse Error/, (socket) => { socket.write('HTTP/1.1 200 OK\r\n'); endless(socket, 'a: b\r\n'.repeat(1000)) }],
    'what is slow': ['it took more than 0.2 s', (socket) => { socket.write(head()); dripping(socket, 'x') }],
    'slow headers': ['it took more than 0.2 s', (socket) => { socket.write('HTTP/1.1 200 OK\r\n'); dripping(socket, 'a: b\r\n') }],
    'an answer that is always to come': ['it took more than 0.2 s', (socket) => dripping(socket, 'HTTP/1.1 100 Continue\r\n\r\n')],
    nothing: ['it took more than 0.2 s', () => {}],
    'an end': ['socket hang up', (socket) => socket.end()],
    'a part of what was promised': ['aborted', (socket) => socket.end(head('Content-Length: 10') + 'list')],
    'a part of a chunk': ['aborted', (socket) => socket.end(head('Transfer-Encoding: chunked') + 'a\r\nlist')],
    'two lengths': [/^Parse Error/, (socket) => socket.end(head('Content-Length: 4', 'Transfer-Encoding: chunked') + '4\r\nlist\r\n0\r\n\r\n')],
    'another protocol without a word': [/^Parse Error/, (socket) => socket.end('SSH-2.0-OpenSSH_9.9\r\n')]
  }
  await Promise.all(Object.entries(rows).map(async ([title, [expected, answer]]) => {
    const server = await serveRaw(t, answer)
    const message = await messageOf(fetcherFor(server).fetch(`${server.url}/x?secret`, options({ timeout: String(expected).startsWith('it took') ? 200 : undefined })))
    const prefix = `${server.url}/x: `
    t.ok(message.startsWith(prefix), title)
    t.match(message.slice(prefix.length), expected, title)
    const [socket] = server.connections
    if (!socket!.destroyed) await new Promise<void>((resolve) => { socket!.on('close', () => { resolve() }) })
    t.equal(server.connections.length, 1, 'the one connection is closed')
  }))
  t.equal(trap.connections.length, 0)

  const gone = net.createServer()
  const { port } = await listening(t, gone)
  await new Promise((resolve) => { gone.close(resolve) })
  t.match(await messageOf(fetcherFor({ port }).fetch(`http://127.0.0.1:${port}/`, options())), `http://127.0.0.1:${port}/: connect ECONNREFUSED`)
  const { resolver } = await serveNames(t, () => ['127.0.0.1', '127.0.0.2'])
  const both = new Fetcher({ allow: [`127.0.0.1:${port}`, `127.0.0.2:${port}`], resolver })
  t.equal(await messageOf(both.fetch(`http://gone.test:${port}/`, options())), `http://gone.test:${port}/: ECONNREFUSED`, 'at none of several addresses')
})

/** A server that answers when it is told to. */
async function serveLater (t: Test): Promise<Listening & { requests: string[], next: () => Promise<void>, release: () => void, status: number }> {
  const waiting: Array<() => void> = []
  const watching: Array<() => void> = []
  const requests: string[] = []
  const later = {
    requests,
    status: 200,
    /** Until there is one more request. */
    next: () => new Promise<void>((resolve) => { watching.push(resolve) }),
    release: () => { for (const answer of waiting.splice(0)) answer() }
  }
  const server = await serveAnswer(t, (request, response) => {
    requests.push(request.url!)
    waiting.push(() => response.writeHead(later.status).end(`list ${requests.length}`))
    for (const seen of watching.splice(0)) seen()
  })
  return Object.assign(later, server)
}

t.test('fetches of one URL at the same time share one request', async (t) => {
  const server = await serveLater(t)
  const fetcher = fetcherFor(server)
  const asked = server.next()
  const body = (text: string): Partial<FetchOptions> => ({ body: { type: OCSP_REQUEST, bytes: Buffer.from(text) } })
  const [one, two, other] = [fetcher.fetch(`${server.url}/a`, options()), fetcher.fetch(`${server.url}/a#b`, options()), fetcher.fetch(`${server.url}/a`, options({ owner: 'staff' }))]
  const [posted, again, another] = [fetcher.fetch(`${server.url}/a`, options(body('a'))), fetcher.fetch(`${server.url}/a`, options(body('a'))), fetcher.fetch(`${server.url}/a`, options(body('b')))]
  await asked
  while (server.requests.length < 4) await server.next()
  server.release()
  t.equal(await one, await two)
  t.not(await one, await other, 'but for another owner')
  t.equal(await posted, await again)
  t.not(await posted, await another, 'and not with another body')
  t.equal(server.requests.length, 4)

  const later = fetcher.fetch(`${server.url}/a`, options())
  await server.next()
  server.release()
  t.not(await later, await one, 'and later it is asked for anew')
})

t.test('four fetches run at once for each client CA, and other CAs do not wait for them', async (t) => {
  const server = await serveLater(t)
  const fetcher = fetcherFor(server)
  const all = Array.from({ length: 6 }, (_, index) => fetcher.fetch(`${server.url}/${index}`, options()))
  while (server.requests.length < 4) await server.next()
  const other = fetcher.fetch(`${server.url}/other`, options({ owner: 'staff' }))
  await server.next()
  t.strictSame(server.requests.slice(0, 4).sort(), ['/0', '/1', '/2', '/3'])
  t.strictSame(server.requests.slice(4), ['/other'])
  server.release()
  await Promise.all([other, ...all.slice(0, 4)])
  while (server.requests.length < 7) await server.next()
  t.strictSame(server.requests.slice(5).sort(), ['/4', '/5'])
  server.release()
  await Promise.all(all)

  t.test('at most a thousand fetches wait', async (t) => {
    const controller = new AbortController()
    const ask = (index: number): Promise<Buffer> => fetcher.fetch(`${server.url}/ocsp`, options({ body: { type: OCSP_REQUEST, bytes: Buffer.from(`${index}`) }, signal: controller.signal }))
    const all = Array.from({ length: 1004 }, (_, index) => ask(index))
    t.equal(await messageOf(ask(1004)), `${server.url}/ocsp: 1000 others from below the same authority wait already`)
    t.equal(fetcher.delayOf(`${server.url}/ocsp`, 'partners'), 0, 'that is no failure of the responder')
    controller.abort(new Error('closed'))
    t.strictSame(new Set(await Promise.all(all.map(messageOf))), new Set(['closed']))
  })
})

t.test('at most a hundred URLs are fetched for each client CA', async (t) => {
  const server = await serveAnswer(t, (_, response) => response.end('list'))
  let now = 0
  const fetcher = fetcherFor(server, { clock: () => now })
  const ask = (path: number, owner = 'partners'): Promise<string> => messageOf(fetcher.fetch(`${server.url}/${path}`, options({ owner })))
  for (let path = 0; path < 100; path++) await ask(path)
  t.equal(await ask(100), `${server.url}/100: there are 100 other URLs from below the same authority already`)
  t.equal(await ask(0), 'it was fetched', 'those that are known are asked for')
  t.equal(await ask(100, 'staff'), 'it was fetched', 'and those of others')
  t.equal(server.connections.length, 102)
  now = 25 * HOUR
  await ask(1)
  t.match(await ask(100), 'there are 100 other URLs')
  now = 27 * HOUR
  t.equal(await ask(100), 'it was fetched', 'what was not asked for during a day makes room')
})

t.test('a URL that failed is fetched again after a while, and later each time', async (t) => {
  let now = 0
  const server = await serveLater(t)
  server.status = 503
  const fetcher = fetcherFor(server, { clock: () => now })
  const url = `${server.url}/list`
  const ask = (owner = 'partners'): Promise<string> => messageOf(fetcher.fetch(url, options({ owner })))
  const answered = async (answer: Promise<string>): Promise<string> => {
    await server.next()
    server.release()
    return answer
  }
  t.equal(fetcher.delayOf(url, 'partners'), 0)
  for (let [times, longest] = [0, 5_000]; times < 9; times++, longest = Math.min(2 * longest, 600_000)) {
    t.equal(await answered(ask()), `${url}: it answers with status 503`)
    const delay = fetcher.delayOf(url, 'partners')
    t.ok(delay > 0.74 * longest && delay <= longest, `${delay} of ${longest}`)
    now += delay - 1
    t.equal(await ask(), `${url}: it answers with status 503 (asked again in 1 s)`)
    now += 1
  }
  t.equal(fetcher.delayOf(url, 'partners'), 0)
  t.equal(await answered(ask('staff')), `${url}: it answers with status 503`, 'for another owner it is asked')

  server.status = 200
  t.equal(await answered(ask()), 'it was fetched')
  server.status = 503
  await answered(ask())
  t.ok(fetcher.delayOf(url, 'partners') <= 5_000, 'after a success it begins anew')
  t.equal(fetcher.delayOf('no URL', 'partners'), 0)

  t.test('a URL that failed is not fetched for those that wait already', async (t) => {
    const controller = new AbortController()
    now += HOUR
    const before = server.requests.length
    const all = Array.from({ length: 6 }, (_, index) => messageOf(fetcher.fetch(url, options({ body: { type: OCSP_REQUEST, bytes: Buffer.of(index) }, signal: controller.signal }))))
    while (server.requests.length < before + 4) await server.next()
    server.release()
    t.match((await Promise.all(all)).slice(4), [/status 503 \(asked again in/, /status 503 \(asked again in/])
    t.equal(server.requests.length, before + 4)
  })

  t.test('the oldest of ten thousand failed URLs are forgotten', (t) => {
    const backoff = new Backoff(() => now)
    for (let key = 0; key <= 10_000; key++) backoff.failed(`${key}`, 'down')
    t.equal(backoff.get('0'), undefined)
    t.match(backoff.get('1'), { reason: 'down' })
    t.end()
  })
})

t.test('a fetch that no request waits for any more is ended', async (t) => {
  const server = await serveLater(t)
  const fetcher = fetcherFor(server)
  const [first, second] = [new AbortController(), new AbortController()]
  const ask = (signal?: AbortSignal): Promise<string> => messageOf(fetcher.fetch(`${server.url}/`, options({ signal })))
  const both = [ask(first.signal), ask(second.signal)]
  await server.next()
  first.abort(new Error('one is gone'))
  t.equal(await both[0], 'one is gone')
  const [socket] = server.connections
  t.notOk(socket!.destroyed)
  const closed = once(socket!, 'close')
  second.abort(new Error('both are gone'))
  t.equal(await both[1], 'both are gone')
  await closed
  t.equal(fetcher.delayOf(`${server.url}/`, 'partners'), 0, 'that is no failure of the server')
  t.equal(await ask(first.signal), 'one is gone', 'before it has begun')
  t.equal(server.requests.length, 1)

  const next = [ask(), ask(new AbortController().signal)]
  await server.next()
  server.release()
  t.strictSame(await Promise.all(next), ['it was fetched', 'it was fetched'], 'and others begin anew')
})

t.test('a fetch over https verifies the certificate of the server', async (t) => {
  const ca = await authority('Private CA')
  const { cert, key } = await issueServer(ca)
  const server = https.createServer({ cert, key }, (_, response) => response.end('list'))
  const { port } = await listening(t, server as unknown as net.Server)
  const allow = [`localhost:${port}`]
  t.match(await messageOf(new Fetcher({ allow }).fetch(`https://localhost:${port}/`, options())), /unable to (verify|get)|self.signed/)

  const file = join(t.testdir({ 'ca.pem': ca.cert }), 'ca.pem')
  const { stdout } = await run('env', [...plainNode, ...typescript, fileURLToPath(new URL('fixtures/apps/fetch.ts', import.meta.url)), `https://localhost:${port}/`, ...allow], { env: { ...process.env, NODE_EXTRA_CA_CERTS: file } })
  t.equal(stdout, 'list')
})

t.test('cached files are whole, and private to the user', async (t) => {
  const root = t.testdir({ file: '' })
  const dir = join(root, 'cache', 'trust')
  const warnings: string[] = []
  const open = (path = dir, more: object = {}) => openCacheDirectory(path, { option: 'clientCertificates.dir', warn: (message) => { warnings.push(message) }, ...more })
  const directory = await open(`${dir}/`)
  const modeOf = (path: string): number => lstatSync(path).mode & 0o777
  t.equal(modeOf(dir), 0o700)
  t.equal(await directory.read('crl-1.der'), undefined)
  t.strictSame(await directory.list(), [])

  await directory.write('crl-1.der', Buffer.from('first'))
  t.equal(modeOf(join(dir, 'crl-1.der')), 0o600)
  const before = statSync(join(dir, 'crl-1.der')).ino
  await Promise.all(['second', 'third', 'fourth'].map((text) => directory.write('crl-1.der', Buffer.from(text))))
  t.not(statSync(join(dir, 'crl-1.der')).ino, before, 'it is another file, in the place of the first')
  const kept = await directory.read('crl-1.der')
  t.equal(String(kept!.bytes), 'fourth', 'the last one that was written')
  t.ok(Math.abs(kept!.writtenAt - Date.now()) < 10_000)
  await directory.write('ocsp-1', Buffer.from('answer'))
  t.strictSame((await directory.list()).sort(), ['crl-1.der', 'ocsp-1'])
  await directory.remove('ocsp-1')
  await directory.remove('ocsp-1')
  t.strictSame(readdirSync(dir), ['crl-1.der'])
  t.strictSame(warnings, [])

  for (const name of ['', '.', '..', '../x', 'a/b', 'a\\b', '.hidden', 'UPPER', 'a..b', 'a\0', 'a'.repeat(101), '-a', 'a b', 'nul\n']) {
    await t.rejects(directory.write(name, Buffer.alloc(1)), { name: 'RangeError' }, JSON.stringify(name))
    await t.rejects(directory.read(name), { name: 'RangeError' })
    await t.rejects(directory.remove(name), { name: 'RangeError' })
  }

  t.test('files of another origin in the cache directory are ignored', async (t) => {
    symlinkSync('/dev/zero', join(dir, 'endless'))
    mkdirSync(join(dir, 'folder'))
    writeFileSync(join(dir, 'README'), 'not ours')
    spawnSync('mkfifo', [join(dir, 'pipe')])
    chmodSync(dir, 0o777)
    const again = await open()
    t.equal(modeOf(dir), 0o700)
    for (const name of ['endless', 'folder', 'pipe']) {
      t.equal(await again.read(name), undefined, name)
      t.match(warnings.pop(), `${join(dir, name)} is not used: it is not a regular file`, name)
    }
    t.notOk((await again.list()).includes('README'))
    const { getuid } = process
    t.teardown(() => { process.getuid = getuid })
    process.getuid = () => lstatSync(dir).uid + 1
    t.equal(await again.read('crl-1.der'), undefined)
    t.match(warnings.pop(), `${join(dir, 'crl-1.der')} is not used: it belongs to another user`)
    await t.rejects(open(), { ...INVALID, message: `clientCertificates.dir: ${dir} cannot be used: it belongs to another user` })
    process.getuid = getuid
    for (const name of ['endless', 'folder', 'pipe']) rmSync(join(dir, name), { recursive: true })
  })

  t.test('a cache directory that other users can write is refused', async (t) => {
    symlinkSync(dir, join(root, 'link'))
    symlinkSync(join(root, 'nowhere'), join(root, 'dangling'))
    for (const name of ['link', 'link/', 'dangling']) await t.rejects(open(join(root, name)), { ...INVALID, message: /^clientCertificates\.dir: .* cannot be used: it is a symbolic link/ })
    await t.rejects(open(join(root, 'file')), { ...INVALID, message: /it is not a directory/ })
    for (const path of [join(root, 'file', 'below'), join(root, 'x'.repeat(300))]) await t.rejects(open(path), { ...INVALID, message: /cannot be used: E/ })
    t.notOk(existsSync(join(root, 'nowhere')))
  })

  t.test('temporary files of a process that ended while writing are removed later', async (t) => {
    const left = ['.00000000-0000-4000-8000-000000000001', '.00000000-0000-4000-8000-000000000002'].map((name) => join(dir, name))
    for (const path of left) writeFileSync(path, 'half')
    utimesSync(left[0]!, new Date(), new Date(Date.now() - 2 * HOUR))
    await open()
    t.strictSame(left.map(existsSync), [false, true])
    rmSync(left[1]!)
  })

  t.test('processes that start together share the cache directory', async (t) => {
    const shared = join(root, 'shared')
    await open(shared)
    const all = Array.from({ length: 200 }, (_, index) => join(shared, `.${String(index).padStart(8, '0')}-0000-4000-8000-000000000000`))
    for (const path of all) {
      writeFileSync(path, '')
      utimesSync(path, new Date(), new Date(Date.now() - 2 * HOUR))
    }
    const opening = open(shared)
    while (readdirSync(shared).length === all.length) await setImmediate()
    for (const path of all) rmSync(path, { force: true })
    await opening
    t.strictSame(readdirSync(shared), [])
  })

  t.test('a cache file that cannot be written is a warning, once, and the old one stays', async (t) => {
    const target = join(dir, 'taken')
    mkdirSync(target)
    await directory.write('taken', Buffer.from('x'))
    await directory.write('taken', Buffer.from('x'))
    t.match(warnings.splice(0), [`${target} cannot be written, and will be missing after a restart: EISDIR`])
    t.strictSame(readdirSync(dir).filter((name) => name.startsWith('.')), [], 'what was begun is removed')
    rmSync(target, { recursive: true })
    await directory.write('taken', Buffer.from('x'))
    await directory.write('taken', Buffer.alloc(128 * 1024 * 1024 + 1))
    t.match(warnings.splice(0), [`${target} cannot be written, and will be missing after a restart: it has more than 134217728 bytes`])
    t.equal(readFileSync(target, 'utf8'), 'x')
  })

  t.test('the cache directory stays within its limit', async (t) => {
    const small = await open(dir, { largest: 5000, most: 3 * 4096 })
    t.strictSame((await small.list()).sort(), ['crl-1.der', 'taken'])
    await small.write('ocsp-1', Buffer.alloc(4096))
    await small.write('ocsp-2', Buffer.alloc(1))
    t.match(warnings.splice(0), [`${join(dir, 'ocsp-2')} cannot be written, and will be missing after a restart: there would be more than 12288 bytes in the directory`])
    await small.write('ocsp-1', Buffer.alloc(1))
    await small.remove('taken')
    await small.write('ocsp-2', Buffer.alloc(1))
    t.strictSame((await small.list()).sort(), ['crl-1.der', 'ocsp-1', 'ocsp-2'])
    writeFileSync(join(dir, 'ocsp-1'), Buffer.alloc(5001))
    t.equal(await small.read('ocsp-1'), undefined)
    t.match(warnings.splice(0), [/ocsp-1 is not used: it has more than 5000 bytes$/])
    t.strictSame(warnings, [])
  })

  t.test('a cache directory that is gone is a warning', async (t) => {
    rmSync(dir, { recursive: true })
    t.strictSame(await directory.list(), [])
    t.match(warnings.pop(), `${dir} cannot be read: ENOENT`)
    mkdirSync(join(dir, 'folder'), { recursive: true })
    await directory.write('crl-1.der', Buffer.from('anew'))
    await directory.remove('folder')
    t.match(warnings.pop(), `${join(dir, 'folder')} cannot be removed: Path is a directory`)
  })
})
