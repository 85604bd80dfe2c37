import t from 'tap'
import ts from 'typescript'
import { repository as root } from './fixtures/programs.ts'
import { offeredKeys } from './fixtures/x509.ts'

const entries = ['lib/index.ts', 'lib/testing.ts', 'lib/tls/index.ts', 'lib/acme/index.ts']

/** Those that are used most have an example, too. */
const WITH_EXAMPLE = [
  'HttpSecurityOptions.flows', 'HttpSecurityOptions.proxy', 'HttpSecurityOptions.policy', 'HttpSecurityOptions.tls', 'HttpSecurityOptions.redirect',
  'RouteShorthandOptions.httpSecurity', 'FastifyRequest.clientCertificateGetDetails', 'FastifyRequest.clientCertificateValue', 'inject',
  'HttpSecurity.enforce', 'HttpSecurity.print', 'HttpSecurity.routes', 'HttpSecurityOptions.clients', 'ClientsDocument', 'Declaration.allow', 'Declaration.verify', 'acme'
]

// Our own files alone, without packages and lib.d.ts: a second in place of several
const options: ts.CompilerOptions = { noLib: true, types: [], module: ts.ModuleKind.NodeNext, rewriteRelativeImportExtensions: true }
const host = ts.createCompilerHost(options)
host.resolveModuleNameLiterals = (literals, file) => literals.map(({ text }) => ({
  resolvedModule: text.startsWith('.') ? ts.resolveModuleName(text, file, options, host).resolvedModule : undefined
}))
const program = ts.createProgram(entries.map((path) => `${root}${path}`), options, host)
const checker = program.getTypeChecker()

/** Public symbols; the name of an interface's member is `Policy.environment`. */
const symbols = new Map<ts.Symbol, { readonly name: string, readonly file: string, readonly hasText: boolean, readonly hasExample: boolean }>()

/** Notes a symbol, its members, and the types that they name. */
function note (symbol: ts.Symbol, prefix = ''): void {
  const own = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol
  const name = `${prefix}${symbol.name}`
  const [declaration] = own.declarations ?? []
  if (declaration === undefined || ts.isTypeParameterDeclaration(declaration) || symbols.has(own)) return
  symbols.set(own, {
    name,
    file: declaration.getSourceFile().fileName.slice(root.length),
    hasText: own.getDocumentationComment(checker).length > 0,
    hasExample: own.getJsDocTags().some((tag) => tag.name === 'example')
  })
  if (ts.isInterfaceDeclaration(declaration)) for (const member of declaration.members) note(checker.getSymbolAtLocation(member.name!)!, `${name}.`)
  noteTypesIn(declaration)
}

function noteTypesIn (node: ts.Node): void {
  if (ts.isTypeReferenceNode(node) && !ts.isQualifiedName(node.typeName)) {
    const named = checker.getSymbolAtLocation(node.typeName)
    if (named !== undefined) note(named)
  }
  if (!ts.isBlock(node)) ts.forEachChild(node, noteTypesIn)
}

for (const path of entries) for (const symbol of checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(`${root}${path}`)!)!)) note(symbol)
// What is added to Fastify's own interfaces
const [added] = program.getSourceFile(`${root}types/fastify.ts`)!.statements.filter(ts.isModuleDeclaration)
for (const declaration of (added!.body as ts.ModuleBlock).statements.filter(ts.isInterfaceDeclaration)) {
  for (const member of declaration.members) note(checker.getSymbolAtLocation(member.name!)!, `${declaration.name.text}.`)
}

t.test('every public symbol has a documentation comment in the editor', async (t) => {
  const without = [...symbols.values()].filter(({ hasText }) => !hasText)
  t.ok(symbols.size > 150, String(symbols.size))
  t.strictSame(without.map(({ name, file }) => `${file}: ${name}`), [])
})

t.test('the most used public symbols have an example in the editor', async (t) => {
  const shown = [...symbols.values()].filter(({ hasExample }) => hasExample).map(({ name }) => name)
  t.strictSame(WITH_EXAMPLE.filter((name) => !shown.includes(name)), [])
})

t.test('the keys of clientCertificateValue are those that the editor completes', async (t) => {
  const declaration = program.getSourceFile(`${root}types/index.ts`)!.statements.find((each) => ts.isTypeAliasDeclaration(each) && each.name.text === 'CertificateValueKey')!
  const { types } = checker.getTypeAtLocation(declaration) as ts.UnionType
  const keys = types.filter((type) => type.isStringLiteral()).map(({ value }) => value)
  t.strictSame(keys.map((key) => key.toLowerCase()).sort(), offeredKeys.map((key) => key.toLowerCase()).sort())
  t.equal(types.length, keys.length + 1, 'and any other string is allowed')
})
