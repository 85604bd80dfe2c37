import neostandard from 'neostandard'

/**
 * The floors of lib/, from the ground up: a file imports what is on its own floor or below it. Types may be imported from
 * types/ everywhere. CONTRIBUTING.md says what is where.
 */
const FLOORS = [
  ['errors.ts', 'levels.ts', 'text.ts', 'frozen.ts', 'slices.ts', 'url/'],
  ['x509/'],
  ['files/'],
  ['trust/'],
  ['tls-interface.ts'],
  ['internals.ts'],
  ['clients/certificate-entry.ts', 'clients/certificate-parts.ts', 'clients/rules.ts'],
  ['proxy/'],
  ['options/'],
  ['response/'],
  ['policy/policy.ts', 'policy/checks.generated.ts', 'clients/clients.ts', 'clients/clients-manager.ts', 'clients/checks.generated.ts'],
  ['routes/'],
  ['policy/policy-manager.ts'],
  ['request/'],
  ['boot.ts'],
  ['index.ts', 'testing.ts'],
  ['cli/']
]
/** Parts of the package by themselves, beside the plugin, which never loads them, and beside each other. */
const ASIDE = {
  'tls/': ['errors.ts', 'levels.ts', 'text.ts', 'frozen.ts', 'slices.ts', 'url/', 'x509/', 'files/', 'trust/', 'tls-interface.ts', 'internals.ts', 'options/'],
  'acme/': ['errors.ts', 'text.ts', 'url/', 'x509/', 'files/', 'tls-interface.ts', 'options/']
}
const aside = Object.keys(ASIDE)

const all = FLOORS.flat()

/** A rule for the files of `room`, which may import from nothing in `above`. */
function downwards (room, above) {
  const names = above.map((name) => name.replaceAll('.', '\\.'))
  return {
    files: [`lib/${room}${room.endsWith('/') ? '**' : ''}`],
    rules: {
      'no-restricted-imports': ['error', {
        patterns: [{ regex: `^\\.{1,2}/(?:\\.\\./)*(?:${names.join('|')})`, message: 'Imports go downwards only: see FLOORS in eslint.config.js.' }]
      }]
    }
  }
}

export default [
  ...neostandard({
    ts: true,
    ignores: [...neostandard.resolveIgnoresFromGitignore(), 'lib/**/checks.generated.ts']
  }),
  ...FLOORS.flatMap((floor, index) => floor.map((room) => downwards(room, [...FLOORS.slice(index + 1).flat(), ...aside]))),
  ...Object.entries(ASIDE).map(([room, below]) => downwards(room, [...all, ...aside].filter((other) => other !== room && !below.includes(other))))
]
