/**
 * What is measured: the package as it is built and shipped, not its sources through a loader, which would add to every
 * function it makes.
 */
import '../../types/fastify.ts'

export const ENTRY = new URL('../../dist/lib/index.js', import.meta.url).href
const TLS_ENTRY = new URL('../../dist/lib/tls/index.js', import.meta.url).href

// By a URL in a variable: types come from the sources, so that `tsc` needs no build.
const { default: httpSecurity } = await import(ENTRY) as typeof import('../../lib/index.ts')
export const { enableTls } = await import(TLS_ENTRY) as typeof import('../../lib/tls/index.ts')

export default httpSecurity
