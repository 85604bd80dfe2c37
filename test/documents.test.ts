import t, { type Test } from 'tap'
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, chownSync, existsSync, linkSync, lstatSync, mkdirSync, readFileSync, readdirSync, readlinkSync, renameSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import fsPromises, { type FileHandle, open } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import fc from 'fast-check'
import { type OpenSource, openSource } from '../lib/files/document.ts'
import { editJson } from '../lib/files/edit-json.ts'
import { readJson } from '../lib/files/json.ts'
import { withLock } from '../lib/files/lock.ts'
import { digestOf, type Policy, type PolicySource } from '../lib/index.ts'
import { POLICY } from '../lib/policy/policy.ts'
import { plainNode, run, typescript } from './fixtures/programs.ts'
import { until } from './fixtures/time.ts'

const SCREENS: Policy = { environment: { forceHttpsForScreens: true } }
const BOTH: Policy = { environment: { forceHttpsForScreens: true, forceHttpsForIntegrations: true } }
const conflict = { code: 'FST_HTTP_SECURITY_CONFLICT', statusCode: 409 }
const notSaved = { code: 'FST_HTTP_SECURITY_NOT_SAVED' }
const isRoot = process.getuid?.() === 0

const text = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`
const open_ = (path: string): OpenSource<Policy> => openSource(path, POLICY, () => {})

/** A policy file of its own in a folder of its own. */
function policyFile (t: Test, content = text(SCREENS)): { path: string, dir: string, source: OpenSource<Policy>, content: () => string } {
  const dir = t.testdir({ 'policy.json': content })
  const path = join(dir, 'policy.json')
  return { path, dir, source: open_(path), content: () => readFileSync(path, 'utf8') }
}

/** Until the test has ended, a function of `fs/promises` is another one. */
function replace<Name extends 'mkdir' | 'readFile' | 'rename'> (t: Test, name: Name, by: (original: typeof fsPromises[Name]) => typeof fsPromises[Name]): () => void {
  const original = fsPromises[name]
  const set = (to: typeof original): void => {
    fsPromises[name] = to
    syncBuiltinESMExports()
  }
  set(by(original))
  const restore = (): void => set(original)
  t.teardown(restore)
  return restore
}

/** Until the test has ended, a method of open files is another one. */
async function replaceOfFiles<Name extends 'writeFile' | 'sync' | 'chown'> (t: Test, name: Name, by: FileHandle[Name]): Promise<() => void> {
  const handle = await open(process.execPath)
  const prototype = Object.getPrototypeOf(handle) as FileHandle
  await handle.close()
  const original = prototype[name]
  prototype[name] = by
  const restore = (): void => { prototype[name] = original }
  t.teardown(restore)
  return restore
}

t.test('the digest is of the content, not of how it is written', async (t) => {
  const policy = { $schema: './policy.schema.json', environment: { hsts: { maxAge: 300 }, forceHttpsForScreens: true }, applications: { 9: {}, 10: {}, é: {} } }
  const canonical = '{"applications":{"10":{},"9":{},"é":{}},"environment":{"forceHttpsForScreens":true,"hsts":{"maxAge":300}}}'
  t.equal(digestOf(policy), createHash('sha256').update(canonical).digest('hex'), 'names by code unit, no space, no $schema')
  t.equal(digestOf({ applications: { é: {}, 10: {}, 9: {} }, environment: { forceHttpsForScreens: true, forceHttpsForIntegrations: undefined, hsts: { maxAge: 300 } } }), digestOf(policy), 'undefined counts as missing')
  t.equal(digestOf(await POLICY.check(policy, '')), digestOf(policy), 'the policy in force has that of its file')
  t.not(digestOf({ environment: { $schema: 'x' } }), digestOf({ environment: {} }), 'at the top only')
  t.equal(digestOf([1, 'a"\n', null, [true, -0, 1e21]]), createHash('sha256').update('[1,"a\\"\\n",null,[true,0,1e+21]]').digest('hex'))
  const shuffled = fc.jsonValue().map((value) => [value, shuffle(value)])
  fc.assert(fc.property(shuffled, ([value, other]) => digestOf(value) === digestOf(other)))
  fc.assert(fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => (digestOf({ a }) === digestOf({ a: b })) === (JSON.stringify(shuffle(a, true)) === JSON.stringify(shuffle(b, true)))))
})

/** The same value with the names of its objects in another order, or in one that depends on the names alone. */
function shuffle (value: unknown, isSorted = false): unknown {
  if (Array.isArray(value)) return value.map((item) => shuffle(item, isSorted))
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).map(([name, part]) => [name, shuffle(part, isSorted)] as const)
  return Object.fromEntries(isSorted ? entries.sort(([a], [b]) => a < b ? -1 : 1) : entries.reverse())
}

// How a document is edited

t.test('only what has changed in a document is edited', async (t) => {
  const cases: Array<[what: string, before: string, value: unknown, after: string]> = [
    ['a value', '{ "a" : 1 ,"b":[ 2 ] }', { a: 3, b: [2] }, '{ "a" : 3 ,"b":[ 2 ] }'],
    ['a member, after the one that it comes after', '{\n  "a": 1,\n\n  "c": 2\n}\n', { a: 1, b: { x: [], y: [{}, 'z'] }, c: 2 }, '{\n  "a": 1,\n\n  "b": {\n    "x": [],\n    "y": [\n      {},\n      "z"\n    ]\n  },\n\n  "c": 2\n}\n'],
    ['a member before all others', '{\n\t"b": 1\n}', { a: { x: 1 }, b: 1 }, '{\n\t"a": {\n\t\t"x": 1\n\t},\n\t"b": 1\n}'],
    ['a member on one line', '{ "e": {\n  "a": { "x": true }\n} }\n', { e: { a: { x: true, y: { z: [1, { w: null }] } } } }, '{ "e": {\n  "a": { "x": true, "y": { "z": [1, { "w": null }] } }\n} }\n'],
    ['a member without spaces', '{"a":{"b":1}}', { a: { b: 1, c: { d: 2, e: [] } } }, '{"a":{"b":1,"c":{"d":2,"e":[]}}}'],
    ['the first member goes', '{\n  "a": 1,\n  "b": 2,\n  "c": 3\n}', { b: 2, c: 3 }, '{\n  "b": 2,\n  "c": 3\n}'],
    ['the last two members go', '{ "a": 1, "b": 2,  "c": 3 }', { a: 1 }, '{ "a": 1 }'],
    ['all members go', '{\r\n  "a": {\r\n    "b": 1\r\n  }\r\n}\r\n', { a: {} }, '{\r\n  "a": {}\r\n}\r\n'],
    ['CRLF', '{\r\n  "a": {}\r\n}\r\n', { a: { b: 1 } }, '{\r\n  "a": {\r\n    "b": 1\r\n  }\r\n}\r\n'],
    ['an empty document', '{}\n', { a: { b: 1 } }, '{\n  "a": {\n    "b": 1\n  }\n}\n'],
    ['items in the middle', '[\n  1,\n  { "a": 1 },\n  3 , 4\n]', [1, { a: 2 }, 5, 4], '[\n  1,\n  { "a": 2 },\n  5 , 4\n]'],
    ['an item goes', '[1, 2,3]', [1, 3], '[1,3]'],
    ['the first item goes', '[ [1], [2] ]', [[2]], '[ [2] ]'],
    ['items come', '{"a":["x"]}', { a: ['w', 'x', 'y'] }, '{"a":["w","x","y"]}'],
    ['items come on lines of their own', '{\n  "a": [\n    1,\n    2\n  ]\n}', { a: [1, 3, 2] }, '{\n  "a": [\n    1,\n    3,\n    2\n  ]\n}'],
    ['another type', '{ "a": [1], "b": {"c":1}, "d": 5 }', { a: { x: 1 }, b: [1], d: {} }, '{ "a": { "x": 1 }, "b": [1], "d": {} }'],
    ['another type at the top', ' [1] ', { a: 1 }, ' {\n  "a": 1\n} '],
    ['a scalar for an object', '{ "b": {"c":1} }', { b: null }, '{ "b": null }'],
    ['names that only look alike', '{ "\\u0061": 1, "__proto__": 2 }', JSON.parse('{"a":1,"__proto__":3}'), '{ "\\u0061": 1, "__proto__": 3 }'],
    ['another order of names is no change', '{ "b": 1, "a": 2 }', { a: 2, b: 1 }, '{ "b": 1, "a": 2 }']
  ]
  for (const [what, before, value, after] of cases) t.equal(editJson(before, value), after, what)
})

/** JSON with any space between its tokens; each name is there once, as `readJson` asks. */
const value = fc.letrec<{ any: unknown, object: unknown, list: unknown }>((tie) => ({
  any: fc.oneof({ depthSize: 'small', withCrossShrink: true }, fc.constantFrom<unknown>(0, 1, -1.5, true, false, null, '', 'x', 'a"\\\n', '{}', ', ', 'ü'), tie('object'), tie('list')),
  object: fc.dictionary(fc.constantFrom('a', 'b', 'c', 'd', '10', '9', '__proto__', '"', ''), tie('any'), { maxKeys: 6 }),
  list: fc.array(tie('any'), { maxLength: 5 })
})).any.map((value): unknown => JSON.parse(JSON.stringify(value)))
const spaces = fc.infiniteStream(fc.constantFrom('', '', ' ', '\n', '\r\n', '\t', '\n    '))

function written (value: unknown, space: Iterator<string>): string {
  const s = (): string => space.next().value as string
  if (Array.isArray(value)) return `[${s()}${value.map((item) => written(item, space) + s()).join(`,${s()}`)}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  return `{${s()}${Object.entries(value).map(([name, part]) => `${JSON.stringify(name)}${s()}:${s()}${written(part, space)}${s()}`).join(`,${s()}`)}}`
}

t.test('whatever is edited, the text has the new value, and what is the same keeps its bytes and its order', async () => {
  fc.assert(fc.property(value, value, value, spaces, (kept, before, after, stream) => {
    const space = stream[Symbol.iterator]()
    const keptText = written(kept, space)
    const beforeText = `{"kept":${keptText},"it":${written(before, space)} }${space.next().value as string}`
    const edited = editJson(beforeText, { it: after, kept })
    assert.deepEqual(readJson(edited), { kept, it: after })
    assert.ok(edited.startsWith(`{"kept":${keptText},"it":`), edited)
    assert.equal(editJson(beforeText, JSON.parse(beforeText)), beforeText)
  }), { numRuns: 1_000 })
  fc.assert(fc.property(value, value, spaces, (before, after, stream) => {
    const beforeText = written(before, stream[Symbol.iterator]())
    const edited = readJson(editJson(beforeText, after))
    assert.deepEqual(edited, after)
    if (![before, after].every((each) => typeof each === 'object' && each !== null && !Array.isArray(each))) return
    const shared = (object: unknown): string[] => Object.keys(object as object).filter((name) => Object.hasOwn(before as object, name) && Object.hasOwn(after as object, name))
    assert.deepEqual(shared(edited), shared(JSON.parse(beforeText)))
  }), { numRuns: 1_000 })
})

t.test('a document of a mebibyte is edited in one pass', async (t) => {
  const clients = Object.fromEntries(Array.from({ length: 8_000 }, (_, number) => [`client-${number}`, { certificates: [{ fingerprint256: 'ab'.repeat(16) }] }]))
  const before = text({ clients })
  const began = process.cpuUsage()
  const after = { clients: Object.fromEntries(Object.entries(clients).flatMap(([name, client], number) => number % 2 === 0 ? [[name, client], [`${name}-too`, client]] : [])) }
  const edited = editJson(before, after)
  const { user } = process.cpuUsage(began)
  t.strictSame(readJson(edited), after)
  t.ok(user < 3_000_000, `${user} µs`)
})

// Files

t.test('a document is saved as a whole, and the file keeps its layout, mode, owner and $schema', async (t) => {
  const before = '\uFEFF{\r\n\t"$schema": "./policy.schema.json",\r\n\t"applications": { "shop": {"forceHttpsForScreens" : true} },\r\n\t"environment": {}\r\n}'
  const { path, dir, source, content } = policyFile(t, before)
  chmodSync(path, 0o664)
  if (isRoot) chownSync(path, 4242, 4343)
  const { mode, uid, gid, ino } = statSync(path)
  const stored = await source.check(await source.load())
  t.equal(await source.saveObstacle(), undefined)
  await source.save({ ...stored, environment: { hsts: { maxAge: 300 }, forceHttpsForScreens: undefined } }, digestOf(stored))
  t.equal(content(), before.replace('{}', '{\r\n\t\t"hsts": {\r\n\t\t\t"maxAge": 300\r\n\t\t}\r\n\t}'))
  const now = statSync(path)
  t.strictSame({ mode: now.mode, uid: now.uid, gid: now.gid }, { mode, uid, gid })
  t.not(now.ino, ino, 'a new file took the place of the old one')
  t.strictSame(readdirSync(dir), ['policy.json'], 'and nothing else is left')
  t.strictSame(await source.check(await source.load()), { environment: { hsts: { maxAge: 300 } }, applications: { shop: { forceHttpsForScreens: true } } })

  const withSchema = { $schema: 'https://shop.test/policy.schema.json' }
  await source.save(withSchema, digestOf(await source.check(await source.load())))
  t.strictSame(JSON.parse(content().slice(1)), withSchema, 'another $schema, and all else away')
})

t.test('a document that has changed since is not overwritten', async (t) => {
  const { path, source, content, dir } = policyFile(t)
  const seen = digestOf(SCREENS)
  const others: Record<string, [string | Buffer, object, RegExp]> = {
    'another document': [text(BOTH), conflict, /policy\.json was not changed: it is another one by now than the one that this was to replace/],
    'no JSON': ['{\n  "environment": oops }', conflict, /was not changed: it is no JSON by now: .*policy\.json:2:18: no JSON/],
    comments: [`// ours\n${text(SCREENS)}`, conflict, /policy\.json:1:1: no JSON/],
    'a name twice': ['{ "environment": {}, "environment": {} }', conflict, /"environment" is there twice/],
    'no document': ['[]', conflict, /it is another one by now/],
    'a number': ['5', conflict, /it is another one by now/],
    nothing: ['', conflict, /no JSON/],
    'UTF-16': [Buffer.from(`\uFEFF${text(SCREENS)}`, 'utf16le'), notSaved, /was not changed: it is not UTF-8/],
    'too large': [`${text(SCREENS)}${' '.repeat(1024 * 1024)}`, notSaved, /was not changed: it has more than 1048576 bytes/]
  }
  for (const [what, [other, error, message]] of Object.entries(others)) {
    writeFileSync(path, other)
    await t.rejects(source.save({}, seen), { ...error, message }, what)
    t.ok(readFileSync(path).equals(Buffer.from(other as string)), what)
  }
  writeFileSync(path, text(SCREENS))
  await t.rejects(source.save({}, ''), conflict)
  await source.save(BOTH, seen)
  t.equal(content(), text(BOTH), 'as it was when it was seen, it is replaced')
  t.strictSame(readdirSync(dir), ['policy.json'])
})

t.test('what is no such document is never written', async (t) => {
  const { source, content } = policyFile(t)
  const cyclic: { environment?: unknown } = {}
  cyclic.environment = cyclic
  for (const [value, message] of [
    [{ environment: { hsts: {} } }, /^policy: environment: hsts: maxAge is missing/], [[], /^policy: /], [null, /^policy: /],
    [undefined, /^policy: it cannot be written as JSON/], [cyclic, /^policy: it cannot be written as JSON/],
    [JSON.parse('{"applications":{"__proto__":{}}}'), /not allowed as a name/]
  ] as const) {
    await t.rejects(source.save(value, digestOf(SCREENS)), { code: 'FST_HTTP_SECURITY_INVALID_POLICY', message })
  }
  const many = { applications: Object.fromEntries(Array.from({ length: 20_000 }, (_, number) => [`application-${number}-${'x'.repeat(40)}`, {}])) }
  await t.rejects(source.save(many, digestOf(SCREENS)), { ...notSaved, message: /it would have more than 1048576 bytes/ })
  t.equal(content(), text(SCREENS))
})

t.test('a file that cannot be written says why', async (t) => {
  const obstacles: Record<string, [prepare: (path: string, dir: string) => unknown, why: RegExp]> = {
    'read-only': [(path) => chmodSync(path, 0o444), /nobody may write it, by its mode/],
    'in a read-only folder': [(_path, dir) => chmodSync(dir, 0o555), /nobody may write in .*, by its mode/],
    'with another name': [(path, dir) => linkSync(path, join(dir, 'other.json')), /a hard link/],
    'in a volume of Kubernetes': [(path, dir) => {
      mkdirSync(join(dir, '..one'))
      renameSync(path, join(dir, '..one', 'policy.json'))
      symlinkSync('..one', join(dir, '..data'))
      symlinkSync('..data/policy.json', path)
    }, /change the ConfigMap or the Secret/],
    'in a volume of Kubernetes, by a link elsewhere': [(path, dir) => {
      mkdirSync(join(dir, 'mount', '..one'), { recursive: true })
      renameSync(path, join(dir, 'mount', '..one', 'policy.json'))
      symlinkSync('..one', join(dir, 'mount', '..data'))
      symlinkSync('..data/policy.json', join(dir, 'mount', 'policy.json'))
      symlinkSync('mount/policy.json', path)
    }, /change the ConfigMap or the Secret/],
    'a folder': [(path) => { rmSync(path); mkdirSync(path) }, /it is not a regular file/],
    'a named pipe': [async (path) => { rmSync(path); await run('mkfifo', [path]) }, /it is not a regular file/],
    'not there': [(path) => rmSync(path), /ENOENT/],
    'a link that leads nowhere': [(path) => { rmSync(path); symlinkSync('nowhere', path) }, /ENOENT/]
  }
  for (const [what, [prepare, why]] of Object.entries(obstacles)) {
    await t.test(what, async (t) => {
      const { path, dir, source } = policyFile(t)
      await prepare(path, dir)
      t.match(await source.saveObstacle(), why)
      const before = readdirSync(dir)
      await t.rejects(source.save({}, digestOf(SCREENS)), { ...notSaved, message: new RegExp(`policy\\.json cannot be written: .*${why.source}`) })
      t.strictSame(readdirSync(dir), before)
      chmodSync(dir, 0o755)
    })
  }
  await t.test('mounted by itself', async (t) => {
    const dir = t.testdir({ 'a folder': { 'policy.json': text(SCREENS) } })
    const path = join(dir, 'a folder', 'policy.json')
    const source = open_(path)
    const mounted = (mountinfo: string): () => void => replace(t, 'readFile', () => (async (file: string) => {
      t.equal(file, '/proc/self/mountinfo')
      return mountinfo
    }) as never)
    let restore = mounted(`620 600 8:1 / ${dir.replaceAll(' ', '\\040')} rw - ext4 /dev/sda1 rw\n621 600 8:1 /conf/policy.json ${path.replaceAll(' ', '\\040')} rw - ext4 /dev/sda1 rw\n`)
    t.match(await source.saveObstacle(), /it is mounted by itself/)
    restore()
    restore = replace(t, 'readFile', () => async () => { throw new Error('there is no /proc') })
    t.equal(await source.saveObstacle(), undefined)
    restore()
    t.equal(await source.saveObstacle(), undefined)
  })
  await t.test('of another user', async (t) => {
    const { path, source, content } = policyFile(t)
    const { getuid } = process
    process.getuid = () => statSync(path).uid + 1
    t.teardown(() => { process.getuid = getuid! })
    t.match(await source.saveObstacle(), /it belongs to another user/)
    await t.rejects(source.save({}, digestOf(SCREENS)), { ...notSaved, message: /it belongs to another user/ })
    t.equal(content(), text(SCREENS))
  })
  await t.test('for a process that may not', async (t) => {
    const { path } = policyFile(t)
    // Root may: it becomes somebody else
    chmodSync(path, isRoot ? 0o644 : 0o466)
    const script = `
      if (process.getuid() === 0) {
        process.setgid(65534)
        process.setuid(65534)
      }
      console.log(await (await import('./lib/files/save-file.ts')).fileObstacle(${JSON.stringify(path)}))`
    const { stdout } = await run('env', [...plainNode, ...typescript, '--input-type=module', '-e', script])
    t.match(stdout, /^EACCES/)
  })
})

t.test('a document is written through a symbolic link, which stays', async (t) => {
  const dir = t.testdir({ conf: { 'policy.json': text(SCREENS) }, app: {} })
  symlinkSync('../conf/policy.json', join(dir, 'app', 'policy.json'))
  symlinkSync('app', join(dir, 'current'))
  const source = open_(join(dir, 'current', 'policy.json'))
  await source.save(BOTH, digestOf(SCREENS))
  t.equal(readlinkSync(join(dir, 'app', 'policy.json')), '../conf/policy.json')
  t.equal(readFileSync(join(dir, 'conf', 'policy.json'), 'utf8'), text(BOTH))
  t.ok(lstatSync(join(dir, 'conf', 'policy.json')).isFile())
  t.strictSame([readdirSync(join(dir, 'conf')), readdirSync(join(dir, 'app'))], [['policy.json'], ['policy.json']])
})

t.test('where writing fails, nothing has changed, and nothing is left', async (t) => {
  const failure = (code: string) => async (): Promise<never> => { throw Object.assign(new Error(`${code}: on purpose`), { code }) }
  for (const [name, code] of [['writeFile', 'ENOSPC'], ['sync', 'EIO'], ['chown', 'EPERM']] as const) {
    const { source, dir, content } = policyFile(t)
    const restore = await replaceOfFiles(t, name, failure(code) as never)
    await t.rejects(source.save(BOTH, digestOf(SCREENS)), { ...notSaved, message: new RegExp(`policy\\.json was not changed: ${code === 'EPERM' ? 'its owner and group cannot be kept: ' : ''}${code}`) }, name)
    restore()
    t.strictSame([content(), readdirSync(dir)], [text(SCREENS), ['policy.json']], name)
    await source.save(BOTH, digestOf(SCREENS))
    t.equal(content(), text(BOTH), 'later, it is written')
  }
  const { source, dir, content } = policyFile(t)
  for (const name of ['mkdir', 'rename'] as const) {
    const restore = replace(t, name, () => failure('EROFS') as never)
    await t.rejects(source.save(BOTH, digestOf(SCREENS)), { ...notSaved, message: /EROFS/ }, name)
    restore()
    t.strictSame([content(), readdirSync(dir)], [text(SCREENS), ['policy.json']], name)
  }
})

t.test('a disk that is full changes nothing', { skip: process.platform === 'win32' }, async (t) => {
  const { path, dir, content } = policyFile(t)
  const script = `
    const { openSource } = await import('./lib/files/document.ts')
    const { digestOf } = await import('./lib/files/digest.ts')
    const { POLICY } = await import('./lib/policy/policy.ts')
    const applications = Object.fromEntries(Array.from({ length: 5_000 }, (_, number) => ['application-' + number, {}]))
    const source = openSource(${JSON.stringify(path)}, POLICY, () => {})
    await source.save({ applications }, digestOf(await source.check(await source.load()))).catch(({ code, message }) => console.log(code, message))`
  // Blocks of 512 bytes
  const { stdout } = await run('sh', ['-c', 'ulimit -f 8; exec env "$@"', 'sh', ...plainNode, ...typescript, '--input-type=module', '-e', script])
  t.match(stdout, /^FST_HTTP_SECURITY_NOT_SAVED .*was not changed: EFBIG/)
  t.strictSame([content(), readdirSync(dir)], [text(SCREENS), ['policy.json']])
})

t.test('a program that knows nothing of the lock, and writes meanwhile, is not overwritten', async (t) => {
  const { path, source, content, dir } = policyFile(t)
  const restore = await replaceOfFiles(t, 'sync', async () => writeFileSync(path, text({})))
  await t.rejects(source.save(BOTH, digestOf(SCREENS)), { ...conflict, message: /another program has written it meanwhile/ })
  restore()
  t.strictSame([content(), readdirSync(dir)], [text({}), ['policy.json']])
})

// Several writers

t.test('of two that save at once, one does, and the other gets a conflict', async (t) => {
  const { path, source, content, dir } = policyFile(t)
  const outcomes = await Promise.all(Array.from({ length: 8 }, async (_, number) => {
    const policy = { environment: { hsts: { maxAge: number } } }
    return await (number % 2 === 0 ? source : open_(path)).save(policy, digestOf(SCREENS)).then(() => policy, ({ code }) => code as string)
  }))
  const [saved, ...others] = outcomes.filter((outcome) => typeof outcome === 'object')
  t.strictSame(others, [])
  t.strictSame(outcomes.filter((outcome) => outcome !== saved), Array(7).fill(conflict.code))
  t.strictSame(JSON.parse(content()), saved)
  t.strictSame(readdirSync(dir), ['policy.json'])
})

/** In a process of its own: counts `hsts.maxAge` up, and begins anew after each conflict. */
const counting = (path: string, times: number): string => `
  const { openSource } = await import('./lib/files/document.ts')
  const { digestOf } = await import('./lib/files/digest.ts')
  const { POLICY } = await import('./lib/policy/policy.ts')
  const source = openSource(${JSON.stringify(path)}, POLICY, () => {})
  console.log('ready')
  await new Promise((resolve) => process.stdin.on('data', resolve))
  let conflicts = 0
  for (let done = 0; done < ${times};) {
    const before = await source.check(await source.load())
    try {
      await source.save({ environment: { hsts: { maxAge: before.environment.hsts.maxAge + 1 } } }, digestOf(before))
      done++
    } catch (error) {
      if (error.code !== 'FST_HTTP_SECURITY_CONFLICT') throw error
      conflicts++
    }
  }
  console.log(conflicts)
  process.exit()`

t.test('nothing is lost of what several processes save, and nobody reads half of it', async (t) => {
  const counter = (count: number): Policy => ({ environment: { hsts: { maxAge: count } } })
  const { path, source, dir } = policyFile(t, text(counter(0)))
  const times = 25
  const children = [1, 2].map(() => spawn('env', [...plainNode, ...typescript, '--input-type=module', '-e', counting(path, times)], { stdio: ['pipe', 'pipe', 'inherit'] }))
  const told = await Promise.all(children.map(async ({ stdout }) => {
    const lines = createInterface(stdout)[Symbol.asyncIterator]()
    await lines.next()
    return lines
  }))
  for (const { stdin } of children) stdin.write('go')
  const processes = Promise.all(told.map(async (lines) => (await lines.next()).value as string))
  const progress = { isOver: false, last: 0, reads: 0 }
  processes.finally(() => { progress.isOver = true }).catch(() => {})
  while (!progress.isOver) {
    const { environment } = await source.check(await source.load())
    const { maxAge } = environment!.hsts!
    if (maxAge < progress.last) t.fail(`${maxAge} after ${progress.last}`)
    progress.last = maxAge
    progress.reads++
  }
  const conflicts = await processes
  t.equal((await source.check(await source.load())).environment?.hsts?.maxAge, 2 * times, `with ${conflicts.join(' and ')} conflicts, seen by ${progress.reads} reads`)
  t.strictSame(readdirSync(dir), ['policy.json'])
})

t.test('a process that is killed before its file is in place has changed nothing, and keeps nobody from saving', async (t) => {
  const { path, dir, source, content } = policyFile(t)
  const script = `
    const { default: promises } = await import('node:fs/promises')
    const { syncBuiltinESMExports } = await import('node:module')
    promises.rename = async () => { console.log('written'); await new Promise((resolve) => setTimeout(resolve, 600_000)) }
    syncBuiltinESMExports()
    const { openSource } = await import('./lib/files/document.ts')
    const { digestOf } = await import('./lib/files/digest.ts')
    const { POLICY } = await import('./lib/policy/policy.ts')
    const source = openSource(${JSON.stringify(path)}, POLICY, () => {})
    await source.save({ environment: { hsts: { maxAge: 1 } } }, digestOf(await source.check(await source.load())))`
  const child = spawn(process.execPath, [...typescript, '--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'], env: { PATH: process.env.PATH } })
  const ended = new Promise((resolve) => child.on('exit', resolve))
  await new Promise((resolve) => child.stdout.on('data', resolve))
  child.kill('SIGKILL')
  await ended
  t.equal(content(), text(SCREENS))
  t.strictSame(await source.check(await source.load()), SCREENS)
  const lock = join(dir, '.policy.json.lock')
  t.ok(existsSync(join(lock, readdirSync(lock)[0]!, 'document')), 'what it has left')
  // Ten seconds later
  utimesSync(lock, new Date(), new Date(Date.now() - 11_000))
  await source.save(BOTH, digestOf(SCREENS))
  t.strictSame([content(), readdirSync(dir)], [text(BOTH), ['policy.json']])
})

t.test('a slow writer that lives keeps its lock', async (t) => {
  const dir = t.testdir()
  const lock = join(dir, 'lock')
  let isDone = false
  const holding = withLock(lock, async () => {
    utimesSync(lock, new Date(), new Date(Date.now() - 5_000))
    await until(() => Date.now() - statSync(lock).mtimeMs < 4_000)
    isDone = true
  })
  await until(() => existsSync(lock))
  t.equal(await withLock(lock, async () => isDone), true, 'whoever waits comes later')
  await holding
  t.strictSame(readdirSync(dir), [])
})

function deferred (): { promise: Promise<void>, resolve: () => void } {
  let resolve!: () => void
  return { promise: new Promise<void>((_resolve) => { resolve = _resolve }), resolve: () => resolve() }
}

t.test('a writer that stood still, and from which the lock was taken away, fails and harms nobody', async (t) => {
  const { dir, path, source, content } = policyFile(t)
  const lock = join(dir, '.policy.json.lock')
  const [other, third] = [deferred(), deferred()]
  let renames = 0
  replace(t, 'rename', (rename) => async (from, to) => {
    if (to === path && ++renames === 1) {
      // As if it had stood still for ten seconds
      utimesSync(lock, new Date(), new Date(Date.now() - 11_000))
      await other.promise
    }
    await rename(from, to)
  })
  const slow = source.save({}, digestOf(SCREENS))
  await until(() => renames === 1)
  await open_(path).save(BOTH, digestOf(SCREENS))
  let isHeld = false
  const holding = withLock(lock, async () => {
    isHeld = true
    await third.promise
  })
  await until(() => isHeld)
  other.resolve()
  await t.rejects(slow, { ...notSaved, message: /was not changed: ENOENT/ })
  t.equal(content(), text(BOTH))
  t.ok(existsSync(lock), 'the lock of who came later is not removed')
  third.resolve()
  await holding
  t.strictSame(readdirSync(dir), ['policy.json'])
})

t.test('a lock that goes while it is being made is made again', async (t) => {
  const lock = join(t.testdir(), 'lock')
  let made = 0
  replace(t, 'mkdir', (mkdir) => (async (path: string, options: object) => {
    await mkdir(path, options)
    if (path === lock && ++made === 1) rmSync(lock, { recursive: true })
  }) as never)
  t.equal(await withLock(lock, async (staging) => existsSync(staging)), true)
  t.equal(made, 2)
})

// Other sources

t.test('a source of users is given what is to be saved, and its errors are those of the writer', async (t) => {
  const saved: unknown[] = []
  const another = Object.assign(new Error('another one'), { code: conflict.code })
  const policy: PolicySource = {
    load: async () => SCREENS,
    async save (value, expected) {
      if (expected !== 'digest') throw another
      saved.push([value, expected])
    }
  }
  const source = openSource(policy, POLICY, () => {})
  t.equal(await source.saveObstacle(), undefined)
  const given = { environment: { forceHttpsForScreens: undefined } }
  await source.save(given, 'digest')
  t.strictSame(saved, [[{ environment: {} }, 'digest']])
  t.not((saved[0] as unknown[])[0], given, 'a copy')
  await t.rejects(source.save({ environment: 5 }, 'digest'), { code: 'FST_HTTP_SECURITY_INVALID_POLICY' })
  t.equal(saved.length, 1, 'what is no policy does not get there')
  t.equal(await source.save({}, 'older').catch((error: unknown) => error), another)
})

t.test('values, and sources without save, cannot be written', async (t) => {
  for (const [option, why] of [[SCREENS, 'it is a value in the options of the application'], [{ load: async () => SCREENS }, 'its source has no save()']] as const) {
    const source = openSource(option, POLICY, () => {})
    t.equal(await source.saveObstacle(), why)
    await t.rejects(source.save({}, digestOf(SCREENS)), { ...notSaved, message: `policy: cannot be written: ${why}` })
  }
})

t.test('every kind of document has the same sources, under its own name', async (t) => {
  const dir = t.testdir({ 'clients.json': '{ "clients": {} }' })
  class Invalid extends Error {}
  const kind = { name: 'clients', stake: 'who is admitted', largest: 1_000, Invalid, check: (input: unknown, where: string) => { if (!Array.isArray(input)) return input; throw new Invalid(`${where}: no`) } }
  const warnings: string[] = []
  const path = join(dir, 'clients.json')
  chmodSync(path, 0o666)
  const source = openSource(path, kind, (message) => warnings.push(message))
  t.equal(source.loading, `clients: reading ${path}`)
  t.strictSame(await source.check(await source.load()), { clients: {} })
  t.strictSame(warnings, [`${path} can be written by every user of this machine, and with it who is admitted`])
  for (const [option, message] of [[join(dir, 'none.json'), /none\.json: cannot be read: ENOENT/], [{ async load () { throw new Error('down') } }, /^clients: the source did not load: down$/]] as const) {
    const error = await openSource(option, kind, () => {}).load().catch((error: Error) => error)
    t.ok(error instanceof Invalid)
    t.match(error, { message })
  }
  await t.rejects(source.save([], digestOf({ clients: {} })), { message: 'clients: no' })
})
