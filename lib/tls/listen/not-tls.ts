import type { Server } from 'node:tls'

/** Not built yet. */
export function answerPlainHttp (_server: Server): void {}
