/**
 * Writes a document back to its file, edited where it has changed. Begin with {@link saveFile}; {@link fileObstacle} says why
 * a file cannot be written.
 */
import assert from 'node:assert/strict'
import { constants } from 'node:fs'
import { access, lstat, readFile, readlink, realpath } from 'node:fs/promises'
import { basename, dirname, join, sep } from 'node:path'
import { ConflictError, NotSavedError } from '../errors.ts'
import { digestOf } from './digest.ts'
import { editJson } from './edit-json.ts'
import { readJson } from './json.ts'
import { withLock } from './lock.ts'
import { isOwn, isUnchanged, readRegular } from './read.ts'
import { replaceFile } from './write.ts'

interface SavedFile {
  /** Absolute. */
  readonly path: string
  /** For messages: the path as it was written. */
  readonly name: string
  /** Bytes that it may have. */
  readonly largest: number
}

/** Mode bits: the permissions, and who may write. */
const PERMISSIONS = 0o7777
const WRITABLE = 0o222
/** The directories that Kubernetes makes in a volume: `..data` leads to `..2026_11_30_17_20_00.123456789`. */
const KUBERNETES = /^\.\.[^.]/
const BYTE_ORDER_MARK = /^\uFEFF?/

/**
 * Replaces what is stored, as a whole or not at all. Only one process at a time does; programs that know nothing of the lock
 * are noticed up to a moment before.
 *
 * @param value as `JSON.parse` returns it; without `$schema`, that of the file stays
 * @param expected the digest of what is stored
 * @throws FST_HTTP_SECURITY_CONFLICT, FST_HTTP_SECURITY_NOT_SAVED; nothing has changed then
 */
export async function saveFile ({ path, name, largest }: SavedFile, value: object, expected: string): Promise<void> {
  const obstacle = await fileObstacle(path)
  if (obstacle !== undefined) throw new NotSavedError(`${name} cannot be written: ${obstacle}`)
  try {
    // The file itself: symbolic links stay, and whichever leads here, the lock is the same.
    const target = await realpath(path)
    await withLock(join(dirname(target), `.${basename(target)}.lock`), async (staging) => {
      const before = await lstat(target, { bigint: true })
      const { bytes } = await readRegular(target, largest, false)
      const written = Buffer.from(nextText(bytes, name, value, expected))
      if (written.length > largest) throw new Error(`it would have more than ${largest} bytes`)
      await replaceFile(target, written, {
        temporary: join(staging, 'document'),
        mode: Number(before.mode) & PERMISSIONS,
        owner: { uid: Number(before.uid), gid: Number(before.gid) },
        async ready () {
          if (!isUnchanged(before, await lstat(target, { bigint: true }))) throw new ConflictError(`${name} was not changed: another program has written it meanwhile`)
        }
      })
    })
  } catch (cause) {
    if (cause instanceof ConflictError) throw cause
    throw new NotSavedError(`${name} was not changed: ${(cause as Error).message}`, { cause })
  }
}

function nextText (bytes: Buffer, name: string, value: object, expected: string): string {
  const text = bytes.toString()
  // What is not edited has to stay as it is, byte for byte.
  if (!Buffer.from(text).equals(bytes)) throw new Error('it is not UTF-8')
  const [mark] = BYTE_ORDER_MARK.exec(text)!
  const content = text.slice(mark.length)
  const stored = readStored(content, name)
  if (digestOf(stored) !== expected) throw new ConflictError(`${name} was not changed: it is another one by now than the one that this was to replace`)
  const { $schema } = Object(stored) as { $schema?: unknown }
  const next = $schema === undefined ? value : { $schema, ...value }
  const edited = editJson(content, next)
  assert.deepEqual(readJson(edited), next)
  return mark + edited
}

/** What is no JSON by now was not seen by whoever expects JSON there, and somebody may be about to mend it. */
function readStored (text: string, name: string): unknown {
  try {
    return readJson(text)
  } catch (cause) {
    throw new ConflictError(`${name} was not changed: it is no JSON by now: ${name}:${(cause as Error).message}`, { cause })
  }
}

/**
 * Why a file cannot be written, in words; undefined where it can. Permissions change: the answer holds now.
 *
 * What nobody may write is left alone, although root could.
 */
export async function fileObstacle (path: string): Promise<string | undefined> {
  try {
    const target = await realpath(path)
    const link = await readlink(path).catch(() => '')
    if ([path, link, target].some((each) => each.split(sep).some((part) => KUBERNETES.test(part)))) {
      return 'it is in a volume of Kubernetes: change the ConfigMap or the Secret'
    }
    const folder = dirname(target)
    const info = await lstat(target)
    if (!info.isFile()) return 'it is not a regular file'
    if (await isMounted(target)) return 'it is mounted by itself, so that no other file can take its place: mount its folder'
    if (info.nlink > 1) return 'it has another name, a hard link, which would keep what it has now'
    if ((info.mode & WRITABLE) === 0) return 'nobody may write it, by its mode'
    if (((await lstat(folder)).mode & WRITABLE) === 0) return `nobody may write in ${folder}, by its mode`
    await access(target, constants.W_OK)
    // A new file takes its place, so that nobody reads half of it.
    await access(folder, constants.W_OK | constants.X_OK)
    // Only root can give a file to another user.
    if (!isOwn(info.uid) && !isOwn(ROOT)) return 'it belongs to another user, and would not any more'
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

/** The user id of root. */
const ROOT = 0

/** Whether the file is a mount point, as one file that a container was given. Linux alone says so. */
async function isMounted (target: string): Promise<boolean> {
  const mounts = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '')
  const escaped = target.replace(/[ \t\n\\]/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`)
  return mounts.split('\n').some((line) => line.split(' ')[4] === escaped)
}
