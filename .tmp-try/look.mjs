// lib/errors.ts
import createError from "@fastify/error";
var code = (name) => `FST_HTTP_SECURITY_${name}`;
var refusals = {
  /** 403: the route is reached over HTTPS only, and this request cannot be redirected. */
  tlsRequired: createError(code("TLS_REQUIRED"), "HTTPS is required", 403),
  /** 403: the route requires a client certificate, and the client presented none. */
  certificateRequired: createError(code("CERTIFICATE_REQUIRED"), "A client certificate is required", 403),
  /** 403: the certificate was not issued by a client CA of the server. */
  certificateUntrusted: createError(code("CERTIFICATE_UNTRUSTED"), "The client certificate is not trusted", 403),
  /** 403: now is after the certificate's validity (RFC 5280 §4.1.2.5). */
  certificateExpired: createError(code("CERTIFICATE_EXPIRED"), "The client certificate has expired", 403),
  /** 403: now is before the certificate's validity (RFC 5280 §4.1.2.5). */
  certificateNotYetValid: createError(code("CERTIFICATE_NOT_YET_VALID"), "The client certificate is not valid yet", 403),
  /** 403: a CRL lists the certificate (RFC 5280 §5). */
  certificateRevoked: createError(code("CERTIFICATE_REVOKED"), "The client certificate has been revoked", 403),
  /** 403: revocation is checked, and no CRL or OCSP answer is in force for the certificate or one above it (RFC 5280 §6.3). */
  revocationUnknown: createError(code("REVOCATION_UNKNOWN"), "It is not known whether the client certificate has been revoked", 403),
  /** 403: the certificate is valid, and the rules of the route do not admit whoever holds it. */
  certificateNotAllowed: createError(code("CERTIFICATE_NOT_ALLOWED"), "The holder of this client certificate is not allowed here", 403),
  /** 403: wrong purpose, malformed, or anything else that verification found. */
  certificateInvalid: createError(code("CERTIFICATE_INVALID"), "The client certificate is not valid", 403),
  /**
   * 421 (RFC 9110 §15.5.20): the connection was made for a host with other client CAs than those of the host that the
   * request names; or only a full handshake can tell whether the certificate counts by now. A client may try again on a
   * new connection.
   */
  misdirected: createError(code("MISDIRECTED"), "This connection does not serve this request any more; try again on a new one", 421),
  /**
   * 425 (RFC 8470 §5.2): a proxy has forwarded this request from TLS early data, which an attacker can replay, and the
   * request needs a certificate or changes something. The proxy or client sends it again once the handshake is done.
   */
  tooEarly: createError(code("TOO_EARLY"), "This request came in TLS early data, which anyone can replay; send it again after the handshake", 425),
  /** 403: this plugin has no level for the route, so that every request is refused. */
  unknownRoute: createError(code("UNKNOWN_ROUTE"), "The security level of this route is not known", 403),
  /**
   * 400: a malformed request target; a Host that is malformed, is not one of ours, or differs from `:authority`
   * (RFC 9110 §7.2, RFC 9113 §8.3.1); a forwarded certificate that is there twice, or is not exactly one.
   */
  badRequest: createError(code("BAD_REQUEST"), "The target, the host or the forwarded certificate of this request is not valid", 400)
};
var codeOf = Object.fromEntries(Object.entries(refusals).map(([refusal, Type]) => [refusal, new Type().code]));
var HEADER_IGNORED = code("HEADER_IGNORED");
var InvalidOptionsError = createError(code("INVALID_OPTIONS"), "%s", 500, TypeError);
var NoEffectError = createError(code("NO_EFFECT"), "%s", 500);
var LoadedLateError = createError(code("LOADED_LATE"), "%s", 500);
var UnsatisfiableError = createError(code("UNSATISFIABLE"), "%s", 500);
var DevelopmentCertificatesError = createError(code("DEVELOPMENT_CERTIFICATES"), "%s", 500);
var InvalidPolicyError = createError(code("INVALID_POLICY"), "%s", 500, TypeError);
var InvalidClientsError = createError(code("INVALID_CLIENTS"), "%s", 500, TypeError);
var InvalidCertificatesError = createError(code("INVALID_CERTIFICATES"), "%s", 500);

// lib/options/validation-errors.ts
import { inspect } from "node:util";
function explain(subject, schema, value) {
  const errors = errorsIn(schema, value, mostSimilar);
  const depth = Math.max(...errors.map(({ instancePath: instancePath2 }) => instancePath2.split("/").length));
  const deepest = errors.filter(({ instancePath: instancePath2 }) => instancePath2.split("/").length === depth);
  const { instancePath } = deepest[0];
  const path = partsOf(instancePath);
  const there = path.reduce((parent, part) => Reflect.get(Object(parent), part), value);
  const where = [subject, ...path].join(": ");
  const shown2 = isSecret(path.at(-1)) && there !== void 0 ? `a value of type ${typeof there}` : show(withoutSecrets(there));
  const unknown = deepest.find(({ keyword }) => keyword === "additionalProperties");
  if (unknown !== void 0 && typeof there === "object") {
    return `${where}: ${unknownOption(unknown.params.additionalProperties[0], Object.keys(at(schema, unknown.schemaPath).properties), there)}`;
  }
  const missing = deepest.find(({ keyword }) => keyword === "required");
  if (missing !== void 0 && typeof there === "object") {
    return `${where}: ${missing.params.requiredProperties.join(", ")} is missing`;
  }
  return `${where}: ${shown2} is not allowed; allowed: ${list([...new Set(deepest.flatMap((error) => allowed(schema, error)))])}`;
}
function unknownOption(name, known, given) {
  const meant = nearest(name, known.filter((each) => !Object.hasOwn(Object(given), each)));
  return `unknown option ${show(name)}; known are ${list(known)}${meant === void 0 ? "" : `. Did you mean ${show(meant)}?`}`;
}
function mostSimilar(alternatives2, value) {
  if (!isPlain(value)) return alternatives2;
  const scores = alternatives2.map((alternative) => similarityOf(alternative, value));
  return alternatives2.filter((_, i) => scores[i] === Math.max(...scores));
}
function similarityOf({ anyOf, type, properties }, value) {
  if (anyOf !== void 0) return Math.max(...anyOf.map((alternative) => similarityOf(alternative, value)));
  if (type !== "object") return 0;
  if (properties === void 0) return Object.values(value).every(isPlain) ? 2.5 : 1.5;
  const known = Object.keys(properties);
  return Object.keys(value).reduce((sum, name) => sum + (known.includes(name) ? 2 : nearest(name, known) === void 0 ? 0 : 1), 1);
}
function isPlain(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}
function isSecret(name) {
  return name === "key" || name === "pfx" || name === "passphrase" || name === "probe" || name === "secret" || name === "sessions";
}
var MOST_SHOWN = 40;
function withoutSecrets(value, depth = 2) {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value) || depth === 0) return value;
  if (Array.isArray(value)) return value.slice(0, MOST_SHOWN).map((part) => withoutSecrets(part, depth - 1));
  return Object.fromEntries(Object.entries(value).slice(0, MOST_SHOWN).map(([name, part]) => [name, isSecret(name) ? "\u2026" : withoutSecrets(part, depth - 1)]));
}
function show(value) {
  const text2 = inspect(value, { depth: 1, breakLength: Infinity });
  return text2.length > 80 ? `${text2.slice(0, 80)}\u2026` : text2;
}
function allowed(schema, { keyword, params, schemaPath, message }) {
  switch (keyword) {
    case "enum":
      return params.allowedValues.map(show);
    case "type":
      return [describe(at(schema, schemaPath), String(params.type))];
    case "anyOf":
      return [];
    case "minimum":
    case "maximum":
      return [rangeOf(at(schema, schemaPath))];
    default:
      return [message.replace("must not have fewer than", "at least")];
  }
}
function rangeOf({ minimum, maximum }) {
  return `${String(minimum)} to ${String(maximum)}`;
}
function describe({ properties, title, required = [] }, type) {
  if (title !== void 0) return title;
  if (type === "boolean") return "true or false (no quotes)";
  const keys = properties === void 0 ? [] : Object.keys(properties);
  const article = /^[aeio]/.test(type) ? "an" : "a";
  return keys.length === 0 ? `${article} ${type}` : `${article} ${type} { ${keys.map((key) => required.includes(key) ? key : `${key}?`).join(", ")} }`;
}
function list(values) {
  return values.join(", ");
}
function at(schema, schemaPath) {
  return partsOf(schemaPath).reduce((node, part) => Reflect.get(node, part), schema);
}
function partsOf(pointer) {
  return pointer.split("/").slice(1).map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
}
var MOST_ERRORS = 100;
function errorsIn(schema, value, choose = (alternatives2) => alternatives2) {
  const errors = [];
  for (const error of errorsOf(schema, value, { schemaPath: "#", instancePath: "", choose })) {
    errors.push(error);
    if (errors.length === MOST_ERRORS) break;
  }
  return errors;
}
function* errorsOf(schema, value, { schemaPath, instancePath, choose }) {
  const error = (keyword, params, message = "") => ({ keyword, schemaPath, instancePath, params, message });
  const ofPart = (name, part, place) => errorsOf(part, Reflect.get(Object(value), name), { schemaPath: `${schemaPath}/${place}`, instancePath: `${instancePath}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`, choose });
  if (schema.type !== void 0 && !IS_A[schema.type](value)) yield error("type", { type: schema.type });
  if (isObject(value)) {
    const { properties = {}, required = [], additionalProperties } = schema;
    const missing = required.filter((name) => !(name in value));
    if (missing.length > 0) yield error("required", { requiredProperties: missing });
    const others2 = Object.getOwnPropertyNames(value).filter((name) => !Object.hasOwn(properties, name));
    if (additionalProperties === false && others2.length > 0) yield error("additionalProperties", { additionalProperties: others2 });
    if (additionalProperties) for (const name of others2) yield* ofPart(name, additionalProperties, "additionalProperties");
    for (const [name, part] of Object.entries(properties)) {
      const isLeftOut = Reflect.get(value, name) === void 0 && !(required.includes(name) && name in value);
      if (!isLeftOut) yield* ofPart(name, part, `properties/${name}`);
    }
  }
  if (Array.isArray(value)) {
    const { items, minItems = 0 } = schema;
    if (items !== void 0) for (const index of value.keys()) yield* ofPart(String(index), items, "items");
    if (value.length < minItems) yield error("minItems", { limit: minItems }, `must not have fewer than ${minItems} items`);
  }
  if (Number.isFinite(value)) {
    if (Number(value) < schema.minimum) yield error("minimum", { limit: schema.minimum });
    if (Number(value) > schema.maximum) yield error("maximum", { limit: schema.maximum });
  }
  if (schema.enum?.includes(value) === false) yield error("enum", { allowedValues: schema.enum });
  if (schema.anyOf !== void 0) {
    const alternatives2 = schema.anyOf.map((part, index) => ({ part, errors: [...errorsOf(part, value, { schemaPath: `${schemaPath}/anyOf/${index}`, instancePath, choose })] }));
    if (alternatives2.some(({ errors }) => errors.length === 0)) return;
    const chosen = choose(schema.anyOf, value);
    yield* alternatives2.filter(({ part }) => chosen.includes(part)).flatMap(({ errors }) => errors);
    yield error("anyOf", {});
  }
}
var IS_A = {
  array: Array.isArray,
  boolean: (value) => typeof value === "boolean",
  integer: Number.isInteger,
  object: isObject,
  string: (value) => typeof value === "string"
};
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
var LONGEST = 64;
var SHORTEST_PART = 4;
function nearest(name, known) {
  const [best] = known.map((other) => ({ other, edits: differenceOf(name.toLowerCase(), other.toLowerCase()) })).sort((a, b) => a.edits - b.edits);
  return best === void 0 || best.edits === Infinity ? void 0 : best.other;
}
function differenceOf(a, b) {
  if (a.length > LONGEST) return Infinity;
  const most = Math.max(1, Math.floor(a.length / 3));
  const edits = editsBetween(a, b);
  if (edits <= most) return edits;
  const [short, long] = a.length < b.length ? [a, b] : [b, a];
  return short.length >= SHORTEST_PART && (long.startsWith(short) || long.endsWith(short)) ? edits : Infinity;
}
function editsBetween(a, b) {
  let before = [];
  let last3 = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const isSame = a[row - 1] === b[column - 1];
      const isSwapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      current[column] = Math.min(
        last3[column] + 1,
        current[column - 1] + 1,
        last3[column - 1] + (isSame ? 0 : 1),
        isSwapped ? before[column - 2] + 1 : Infinity
      );
    }
    [before, last3] = [last3, current];
  }
  return last3[b.length];
}

// lib/slices.ts
import { setImmediate } from "node:timers/promises";
var SLICE = 4;
var PIECE = 64 * 1024;
var last = Promise.resolve();
function nextTurn() {
  last = last.then(async () => {
    await setImmediate();
  });
  return last;
}
var Slices = class {
  #pause;
  /** The first slice begins with a turn of its own: many works may be begun at once. */
  #since = -Infinity;
  constructor(pause = nextTurn) {
    this.#pause = pause;
  }
  /** Awaited between two pieces of work, each of which takes less than a millisecond. */
  async rest() {
    if (performance.now() - this.#since <= SLICE) return;
    await this.#pause();
    this.#since = performance.now();
  }
  /** Gives out all of `bytes`, piece by piece. */
  async *piecesOf(bytes) {
    for (let offset = 0; offset < bytes.length; offset += PIECE) {
      await this.rest();
      yield bytes.subarray(offset, offset + PIECE);
    }
  }
};

// lib/clients/certificate-entry.ts
import { isIPv4, isIPv6, SocketAddress } from "node:net";
var ISSUED_BY = "issuedBy";
var FINGERPRINT = "fingerprint256";
var SERIAL_NUMBER = "serialNumber";
var ATTRIBUTES = ["CN", "C", "L", "O", "OU", "S", "ST", "T", "GN", "I", "E", "Email", "SERIALNUMBER", "DC", "UID"];
var ALIASES = /* @__PURE__ */ new Map([["S", "ST"], ["Email", "E"]]);
var READERS = {
  subject: (value) => attributeParts("subject", value),
  issuer: (value) => attributeParts("issuer", value),
  san: (value) => [alternativeNamePart(textIn("san", value))],
  fingerprint256: (value) => [[FINGERPRINT, hexIn(FINGERPRINT, value, /^[\da-f]{64}$/, "the SHA-256 of a certificate: 64 hex digits, with or without colons")]],
  serialNumber(value, { issuer, issuedBy }) {
    if (issuer === void 0 && issuedBy === void 0) throw new TypeError("serialNumber: needs issuer or issuedBy beside it, because each CA numbers its own certificates");
    return [[SERIAL_NUMBER, canonicalSerial(hexIn(SERIAL_NUMBER, value, /^-?[\da-f]{1,80}$/, "hex digits, with or without colons or hyphens"))]];
  },
  issuedBy: (value) => [[ISSUED_BY, textIn("issuedBy", value)]]
};
function resolveEntry(entry2) {
  const given = partsIn(entry2, Object.keys(READERS), "");
  if (given.length === 0) throw new TypeError("an empty entry is not allowed, because it would match every certificate");
  const parts = given.flatMap(([name, value]) => READERS[name](value, entry2));
  return Object.freeze(parts.sort(([a], [b]) => a < b ? -1 : 1));
}
function partsIn(value, allowed2, where) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new TypeError(`${where}${shown(value)} is not allowed; allowed: an object { ${allowed2.map((name) => `${name}?`).join(", ")} }`);
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== null && prototype !== Object.prototype) throw new TypeError(`${where}an object of a class is not allowed; allowed: a plain object`);
  const parts = Object.entries(value);
  for (const [name, part] of parts) {
    if (!allowed2.includes(name)) throw new TypeError(`${where}${shown(name)} is not allowed; allowed: ${allowed2.join(", ")}`);
    if (part === void 0) throw new TypeError(`${where}${name}: undefined is not allowed; leave it out, or give a value`);
  }
  return parts;
}
function textIn(where, value) {
  if (typeof value === "string" && value !== "") return value;
  throw new TypeError(`${where}: ${shown(value)} is not allowed; allowed: a string that is not empty`);
}
function shown(value) {
  const text2 = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text2.length > 80 ? `${text2.slice(0, 80)}\u2026` : text2;
}
function labelIn(entry2) {
  return entry2.find(([name]) => name === ISSUED_BY)?.[1];
}
function attributeValue(values) {
  return values.length === 1 ? `=${values[0]}` : JSON.stringify([...values].sort());
}
function canonicalSerial(hex) {
  return hex.toLowerCase().replace(/^(-?)0+(?=.)/, "$1");
}
function attributeParts(whose, attributes2) {
  const given = partsIn(attributes2, ATTRIBUTES, `${whose}: `);
  if (given.length === 0) throw new TypeError(`${whose}: an empty object is not allowed, because it would match every name`);
  const parts = given.map(([key, value]) => {
    const values = Array.isArray(value) ? value.map((each) => textIn(`${whose}: ${key}`, each)) : [textIn(`${whose}: ${key}`, value)];
    if (values.length === 0) throw new TypeError(`${whose}: ${key}: an empty list is not allowed; leave it out, or give a value`);
    return [`${whose} ${ALIASES.get(key) ?? key}`, attributeValue(values)];
  });
  const names2 = parts.map(([name]) => name);
  const twice = names2.find((name, index) => names2.indexOf(name) !== index);
  if (twice !== void 0) throw new TypeError(`${whose}: ${twice.slice(whose.length + 1)} is there twice, under two names`);
  return parts;
}
var SAN_KINDS = ["DNS", "URI", "email", "IP", "UPN"];
function alternativeNamePart(san) {
  const colon = san.indexOf(":");
  const [kind, value] = [san.slice(0, colon), san.slice(colon + 1)];
  if (!SAN_KINDS.includes(kind) || value === "" || /\p{Control}/u.test(value)) {
    throw new TypeError(`san: ${shown(san)} is not allowed; allowed: a kind and a value, as in ${SAN_KINDS.map((kind2) => `'${kind2}:\u2026'`).join(", ")}`);
  }
  return [`san ${kind}`, kind === "IP" ? canonicalAddress(value) : value];
}
function canonicalAddress(value) {
  if (isIPv4(value)) return value;
  if (isIPv6(value) && !value.includes("%")) return new SocketAddress({ address: value, family: "ipv6" }).address;
  throw new TypeError(`san: ${shown(value)} is no IP address`);
}
function hexIn(name, value, form, allowed2) {
  const text2 = textIn(name, value).toLowerCase();
  const hex = form.test(text2) ? text2 : text2.replace(/(?<=[\da-f]{2})[:-](?=[\da-f]{2})/g, "");
  if (!form.test(hex)) throw new TypeError(`${name}: ${shown(value)} is not allowed; allowed: ${allowed2}`);
  return hex;
}
var EntryIndex = class {
  #shapes = /* @__PURE__ */ new Map();
  get isEmpty() {
    return this.#shapes.size === 0;
  }
  /** Whether any entry has `issuedBy`. */
  get asksForIssuer() {
    return [...this.#shapes.values()].some(({ names: names2 }) => names2.includes(ISSUED_BY));
  }
  /** @returns what has been added before with an entry that is the same */
  add(entry2, value) {
    const names2 = entry2.map(([name]) => name);
    const id = names2.join("\n");
    let shape = this.#shapes.get(id);
    if (shape === void 0) this.#shapes.set(id, shape = { names: names2, values: /* @__PURE__ */ new Map() });
    const key = entry2.reduce((key2, [, value2]) => key2 + keyOf(value2), "");
    const before = shape.values.get(key);
    if (before === void 0) shape.values.set(key, [value]);
    else before.push(value);
    return before ?? [];
  }
  /** What was added with entries that match, in no particular order. */
  find(parts) {
    const found = [];
    for (const { names: names2, values } of this.#shapes.values()) collect(found, values, parts, names2, 0, "");
    return found;
  }
};
function collect(found, values, parts, names2, at2, key) {
  if (at2 === names2.length) found.push(...values.get(key) ?? []);
  else for (const value of parts.valuesOf(names2[at2])) collect(found, values, parts, names2, at2 + 1, key + keyOf(value));
}
function keyOf(value) {
  return `${value.length}:${value}`;
}

// lib/clients/checks.generated.ts
var ClientsSchema = JSON.parse('{"type":"object","required":["clients"],"properties":{"$schema":{"type":"string","description":"The address of this schema, for editors."},"clients":{"type":"object","additionalProperties":{"type":"object","required":["certificates"],"properties":{"groups":{"type":"array","items":{"type":"string"},"description":"Groups that rules may name."},"certificates":{"type":"array","items":{"type":"object","properties":{}},"minItems":1,"description":"One that matches is enough."},"suspended":{"type":"boolean","description":"true: no rule admits this client. Default false."}},"additionalProperties":false},"description":"By the name that a client goes by."}},"additionalProperties":false}');
var isClients = /* @__PURE__ */ (() => {
  const External = [/(^\$schema$|^clients$)/u, /(?!)/u, /(^groups$|^certificates$|^suspended$)/u];
  const check_0 = ((value) => typeof value === "object" && value !== null && !Array.isArray(value) && ("clients" in value && Object.getOwnPropertyNames(value).every((unique_0, unique_1) => External[0].test(unique_0) || false) && ((value.$schema === void 0 || (!("$schema" in value) || typeof value.$schema === "string")) && (typeof value.clients === "object" && value.clients !== null && !Array.isArray(value.clients) && Object.getOwnPropertyNames(value.clients).every((unique_2, unique_3) => External[1].test(unique_2) || typeof value.clients[unique_2] === "object" && value.clients[unique_2] !== null && !Array.isArray(value.clients[unique_2]) && ("certificates" in value.clients[unique_2] && Object.getOwnPropertyNames(value.clients[unique_2]).every((unique_4, unique_5) => External[2].test(unique_4) || false) && ((value.clients[unique_2].groups === void 0 || (!("groups" in value.clients[unique_2]) || Array.isArray(value.clients[unique_2].groups) && value.clients[unique_2].groups.every((unique_6, index) => typeof unique_6 === "string"))) && (Array.isArray(value.clients[unique_2].certificates) && (value.clients[unique_2].certificates.every((unique_7, index) => typeof unique_7 === "object" && unique_7 !== null && !Array.isArray(unique_7) && true) && value.clients[unique_2].certificates.length >= 1)) && (value.clients[unique_2].suspended === void 0 || (!("suspended" in value.clients[unique_2]) || typeof value.clients[unique_2].suspended === "boolean")))))))));
  return (value) => check_0(value);
})();

// lib/clients/rules.ts
var NO_RULES = Object.freeze([]);
function isName(name) {
  return typeof name === "string" && name !== "__proto__" && /^\P{Control}{1,128}$/u.test(name);
}

// lib/clients/clients.ts
var MOST_NAMED = 10;
var Clients = class {
  /** Each definition as JSON, by name: what two documents differ in. */
  definitions;
  /** Labels of client CAs that entries ask for, each with the place of one of them. */
  labels;
  /** What is odd about the document. */
  warnings;
  #index;
  #groups;
  constructor(index, { definitions, groups, labels: labels2, warnings }) {
    this.#index = index;
    this.#groups = groups;
    this.definitions = definitions;
    this.labels = labels2;
    this.warnings = warnings;
  }
  /** Clients whose entries match a certificate, in the order of the document, each once: the first one counts. */
  find(parts) {
    const found = this.#index.find(parts);
    return found.length < 2 ? found : [...new Set(found)].sort((a, b) => a.position - b.position);
  }
  hasClient(name) {
    return this.definitions.has(name);
  }
  hasGroup(name) {
    return this.#groups.has(name);
  }
};
var PIECE2 = 128;
async function resolveClients(input, where) {
  if (!isClients(input)) throw new InvalidClientsError(explain(where, ClientsSchema, input));
  const [index, definitions, groups, labels2, alike] = [new EntryIndex(), /* @__PURE__ */ new Map(), /* @__PURE__ */ new Set(), /* @__PURE__ */ new Map(), /* @__PURE__ */ new Set()];
  const slices = new Slices();
  for (const [name, definition] of Object.entries(input.clients)) {
    if (definitions.size % PIECE2 === 0) await slices.rest();
    if (!isName(name)) throw new InvalidClientsError(`${where}: clients: ${show(name)}: not allowed as a name`);
    const place = () => `${where}: clients: ${name}`;
    const known = knownClient(name, definition, definitions.size, place);
    for (const group of known.client.groups) groups.add(group);
    for (const [at2, certificate] of definition.certificates.entries()) {
      const entry2 = entryAt(() => `${place()}: certificates: ${at2}`, certificate);
      const other = index.add(entry2, known).find((other2) => other2 !== known);
      if (other !== void 0) alike.add(`${show(other.client.name)} and ${show(name)}`);
      const label = labelIn(entry2);
      if (label !== void 0) labels2.set(label, `${place()}: certificates: ${at2}`);
    }
    definitions.set(name, JSON.stringify(definition));
  }
  const named = [...alike].slice(0, MOST_NAMED).join("; ");
  const warnings = alike.size === 0 ? [] : [`${where}: of clients with the same certificate, the first in the document counts: ${named}${alike.size > MOST_NAMED ? `; and ${alike.size - MOST_NAMED} more` : ""}`];
  return new Clients(index, { definitions, groups, labels: labels2, warnings });
}
var LARGEST = 8 * 1024 * 1024;
var NO_GROUPS = Object.freeze([]);
function knownClient(name, { groups = [], suspended = false }, position, place) {
  const wrong = groups.find((group) => !isName(group));
  if (wrong !== void 0) throw new InvalidClientsError(`${place()}: groups: ${show(wrong)}: not allowed as a name`);
  return Object.freeze({ client: Object.freeze({ name, groups: groups.length === 0 ? NO_GROUPS : Object.freeze([...new Set(groups)]) }), isSuspended: suspended, position });
}
function entryAt(place, certificate) {
  try {
    return resolveEntry(certificate);
  } catch (cause) {
    throw new InvalidClientsError(`${place()}: ${cause.message}`, { cause });
  }
}

// lib/x509/der.ts
import { isUtf8 } from "node:buffer";
var INTEGER = 2;
var BIT_STRING = 3;
var OCTET_STRING = 4;
var OBJECT_IDENTIFIER = 6;
var SEQUENCE = 48;
var SET = 49;
function readOr(read, otherwise) {
  try {
    return read();
  } catch {
    return otherwise;
  }
}
function notDer() {
  return new RangeError("Not DER");
}
function elementOf(bytes) {
  const element = elementAt(bytes, 0, bytes.length);
  if (element.end !== bytes.length) throw notDer();
  return element;
}
function elementsIn(element, tag) {
  if (element?.tag !== tag) throw notDer();
  const elements = [];
  let offset = element.start;
  while (offset < element.end) {
    const inner = elementAt(element.bytes, offset, element.end);
    elements.push(inner);
    offset = inner.end;
  }
  return elements;
}
function contentOf(element, tag) {
  if (element?.tag !== tag) throw notDer();
  return element.bytes.subarray(element.start, element.end);
}
function derOf(element) {
  return element.bytes.subarray(element.offset, element.end);
}
function elementAt(bytes, offset, limit) {
  const tag = bytes[offset];
  if ((tag & 31) === 31) throw notDer();
  let start = offset + 2;
  let length2 = bytes[offset + 1];
  if (length2 >= 128) {
    const octets = length2 & 127;
    if (octets === 0 || octets > 4) throw notDer();
    length2 = 0;
    for (const end2 = start + octets; start < end2; start++) length2 = length2 * 256 + bytes[start];
    if (length2 < 128 || bytes[offset + 2] === 0) throw notDer();
  }
  const end = start + length2;
  if (!(end <= limit)) throw notDer();
  return { bytes, tag, offset, start, end };
}
var MAX_OCTETS = 128;
function dottedOf(content) {
  if (content.length > MAX_OCTETS) throw notDer();
  assertIdentifier(content);
  const arcs = [];
  let arc = 0n;
  for (const octet of content) {
    arc = arc << 7n | BigInt(octet & 127);
    if (octet >= 128) continue;
    arcs.push(arc);
    arc = 0n;
  }
  const root = arcs[0] < 80n ? arcs[0] / 40n : 2n;
  return [root, arcs[0] - root * 40n, ...arcs.slice(1)].join(".");
}
function assertIdentifier(content) {
  let isWhole = true;
  for (const octet of content) {
    if (isWhole && octet === 128) throw notDer();
    isWhole = octet < 128;
  }
  if (!isWhole || content.length === 0) throw notDer();
}
function octetsOf(dotted) {
  const [root, second, ...arcs] = dotted.split(".").map(Number);
  return Buffer.from([root * 40 + second, ...arcs].flatMap(octetsOfArc));
}
function octetsOfArc(arc) {
  return arc < 128 ? [arc] : [...octetsOfArc(Math.floor(arc / 128)).map((octet) => octet | 128), arc % 128];
}
var FOUR_CENTURIES = 146097 * 864e5;
var decoders = /* @__PURE__ */ new Map([
  [12, utf8],
  // UTF8String
  [18, latin1],
  // NumericString
  [19, latin1],
  // PrintableString
  [20, latin1],
  // TeletexString
  [22, latin1],
  // IA5String
  [28, utf32],
  // UniversalString
  [30, utf16]
  // BMPString
]);
function textOf(element) {
  return decoders.get(element.tag)?.(element) ?? hexOf(element);
}
function hexOf(element) {
  return `#${derOf(element).toString("hex").toUpperCase()}`;
}
function latin1({ bytes, start, end }) {
  return bytes.toString("latin1", start, end);
}
function utf8({ bytes, start, end }) {
  const text2 = bytes.toString("utf8", start, end);
  return !text2.includes("\uFFFD") || isUtf8(bytes.subarray(start, end)) ? text2 : void 0;
}
function utf16(element) {
  const content = contentOf(element, element.tag);
  if (content.length % 2 !== 0) return void 0;
  const text2 = Buffer.from(content).swap16().toString("utf16le");
  return /\p{Surrogate}/u.test(text2) ? void 0 : text2;
}
function utf32(element) {
  const content = contentOf(element, element.tag);
  if (content.length % 4 !== 0) return void 0;
  let text2 = "";
  for (let offset = 0; offset < content.length; offset += 4) {
    const point = content.readUInt32BE(offset);
    if (point > 1114111 || point >= 55296 && point <= 57343) return void 0;
    text2 += String.fromCodePoint(point);
  }
  return text2;
}
var tags = { octetString: 4, printableString: 19, bmpString: 30, sequence: 48, set: 49 };
function der(tag, ...contents) {
  const body = Buffer.concat(contents);
  return Buffer.concat([Buffer.of(tag), length(body.length), body]);
}
function length(bytes) {
  if (bytes < 128) return Buffer.of(bytes);
  const hex = bytes.toString(16);
  const digits = Buffer.from(hex.padStart(hex.length + hex.length % 2, "0"), "hex");
  return Buffer.concat([Buffer.of(128 | digits.length), digits]);
}

// lib/x509/fields.ts
var VERSION = 160;
var EXTENSIONS = 163;
var NO_VALIDITY = Object.freeze({ notBefore: NaN, notAfter: NaN });
function fieldsOf(certificate) {
  const [tbs, signatureAlgorithm] = elementsIn(elementOf(certificate.raw), SEQUENCE);
  const all = elementsIn(tbs, SEQUENCE);
  const version = all[0]?.tag === VERSION ? all[0] : void 0;
  const [serialNumber, , issuer, validity3, subject, publicKey] = version === void 0 ? all : all.slice(1);
  const extensions = all.find(({ tag }) => tag === EXTENSIONS);
  return { version, serialNumber, signatureAlgorithm, issuer, validity: validity3, subject, publicKey, extensions };
}
function extensionOf(certificate, identifier) {
  const { extensions } = fieldsOf(certificate);
  if (extensions === void 0) return void 0;
  const found = elementsIn(elementsIn(extensions, EXTENSIONS)[0], SEQUENCE).map((extension2) => elementsIn(extension2, SEQUENCE)).filter(([name]) => contentOf(name, OBJECT_IDENTIFIER).equals(identifier));
  if (found.length > 1) throw new RangeError("An extension is there twice");
  return found.length === 0 ? void 0 : contentOf(found[0].at(-1), OCTET_STRING);
}
function idOf(dotted) {
  return octetsOf(dotted).toString("latin1");
}
function idNamedBy(identifier) {
  return contentOf(identifier, OBJECT_IDENTIFIER).toString("latin1");
}
function onlyElementIn(element) {
  const [inner, ...more] = elementsIn(element, element.tag);
  if (inner === void 0 || more.length > 0) throw notDer();
  return inner;
}

// lib/x509/distinguished-names.ts
var NO_NAME = Object.freeze([]);
var ESCAPES = new Map([...Array(160).keys()].map((code2) => String.fromCharCode(code2)).filter((character) => /\p{Control}/u.test(character)).map((character) => [character, Buffer.from(character).toString("hex").toUpperCase().replace(/../g, "\\$&")]));
function subjectOf(certificate) {
  if (certificate === void 0) return NO_NAME;
  return readOr(() => parseName(fieldsOf(certificate).subject), NO_NAME);
}
function issuerOf(certificate) {
  if (certificate === void 0) return NO_NAME;
  return readOr(() => parseName(fieldsOf(certificate).issuer), NO_NAME);
}
function parseName(element) {
  return Object.freeze(elementsIn(element, SEQUENCE).map((set) => {
    const attributes2 = elementsIn(set, SET);
    if (attributes2.length === 0) throw notDer();
    return Object.freeze(attributes2.map(parseAttribute));
  }));
}
function parseAttribute(element) {
  const parts = elementsIn(element, SEQUENCE);
  if (parts.length !== 2) throw notDer();
  return Object.freeze({ type: typeOf(parts[0]), value: textOf(parts[1]) });
}
function formatName(name) {
  return name.map((rdn) => rdn.map(formatAttribute).join(" + ")).join(", ");
}
function formatAttribute({ type, value }) {
  if (!/[,+;"\p{Control}]|^ | $/u.test(value)) return `${type}=${value}`;
  return `${type}="${value.replace(/["\\\p{Control}]/gu, (character) => ESCAPES.get(character) ?? `\\${character}`)}"`;
}
function attributeValues(name, key) {
  const wanted = attributeTypeOf(key);
  return name.flat().filter(({ type }) => type === wanted).map(({ value }) => value);
}
function attributeValue2(name, key) {
  return attributeValues(name, key).join(";");
}
var SHORT_NAMES = {
  "2.5.4.3": "CN",
  "2.5.4.4": "SN",
  "2.5.4.5": "serialNumber",
  "2.5.4.6": "C",
  "2.5.4.7": "L",
  "2.5.4.8": "ST",
  "2.5.4.9": "street",
  "2.5.4.10": "O",
  "2.5.4.11": "OU",
  "2.5.4.12": "title",
  "2.5.4.13": "description",
  "2.5.4.15": "businessCategory",
  "2.5.4.16": "postalAddress",
  "2.5.4.17": "postalCode",
  "2.5.4.18": "postOfficeBox",
  "2.5.4.20": "telephoneNumber",
  "2.5.4.41": "name",
  "2.5.4.42": "GN",
  "2.5.4.43": "initials",
  "2.5.4.44": "generationQualifier",
  "2.5.4.45": "x500UniqueIdentifier",
  "2.5.4.46": "dnQualifier",
  "2.5.4.65": "pseudonym",
  "2.5.4.72": "role",
  "2.5.4.97": "organizationIdentifier",
  "0.9.2342.19200300.100.1.1": "UID",
  "0.9.2342.19200300.100.1.3": "mail",
  "0.9.2342.19200300.100.1.25": "DC",
  "1.2.840.113549.1.9.1": "emailAddress",
  "1.2.840.113549.1.9.2": "unstructuredName",
  "1.2.840.113549.1.9.8": "unstructuredAddress",
  "1.3.6.1.4.1.311.60.2.1.1": "jurisdictionL",
  "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionST",
  "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionC"
};
var NAMES_BY_OCTETS = new Map(
  Object.entries(SHORT_NAMES).map(([dotted, name]) => [octetsOf(dotted).toString("latin1"), name])
);
var TYPES_BY_KEY = new Map(Object.entries({
  CN: "CN",
  C: "C",
  L: "L",
  O: "O",
  OU: "OU",
  S: "ST",
  ST: "ST",
  T: "title",
  GN: "GN",
  I: "initials",
  E: "emailAddress",
  EMAIL: "emailAddress",
  SERIALNUMBER: "serialNumber",
  DC: "DC",
  UID: "UID"
}));
var attributeKeys = Object.freeze([...TYPES_BY_KEY.keys()]);
function typeOf(element) {
  if (element?.tag !== OBJECT_IDENTIFIER) throw notDer();
  return NAMES_BY_OCTETS.get(latin1(element)) ?? dottedOf(contentOf(element, OBJECT_IDENTIFIER));
}
function attributeTypeOf(key) {
  return TYPES_BY_KEY.get(key.toUpperCase());
}

// lib/x509/general-names.ts
import { SocketAddress as SocketAddress2 } from "node:net";
var SUBJECT_ALT_NAME = octetsOf("2.5.29.17");
var UTF8_STRING = 12;
var NO_NAMES = Object.freeze([]);
var NAME_KINDS = /* @__PURE__ */ new Map([
  [160, { kind: "otherName", read: hexOf }],
  [129, { kind: "email", read: latin1 }],
  [130, { kind: "DNS", read: latin1 }],
  [163, { kind: "X400Name", read: hexOf }],
  [164, { kind: "DirName", read: (element) => formatName(parseName(elementsIn(element, 164)[0])) }],
  [165, { kind: "EdiPartyName", read: hexOf }],
  [134, { kind: "URI", read: latin1 }],
  [135, { kind: "IP", read: address }],
  [136, { kind: "RID", read: (element) => dottedOf(contentOf(element, 136)) }]
]);
function alternativeNamesOf(certificate) {
  return readOr(() => {
    const extension2 = extensionOf(certificate, SUBJECT_ALT_NAME);
    if (extension2 === void 0) return NO_NAMES;
    return Object.freeze(elementsIn(elementOf(extension2), SEQUENCE).map(parseAlternativeName));
  }, NO_NAMES);
}
function formatAlternativeName({ kind, value }) {
  return `${kind}:${value}`;
}
function parseAlternativeName(element) {
  const entry2 = NAME_KINDS.get(element.tag);
  if (entry2 === void 0) throw notDer();
  const principal = readOr(() => userPrincipalNameIn(element), void 0);
  if (principal !== void 0) return Object.freeze({ kind: "UPN", value: principal });
  return Object.freeze({ kind: entry2.kind, value: entry2.read(element) });
}
function userPrincipalNameIn(element) {
  if (element.tag !== OTHER_NAME) return void 0;
  const [type, value, ...more] = elementsIn(element, OTHER_NAME);
  if (more.length > 0 || value?.tag !== 160 || idNamedBy(type) !== USER_PRINCIPAL_NAME) return void 0;
  const name = onlyElementIn(value);
  return name.tag === UTF8_STRING ? textOf(name) : void 0;
}
function address(element) {
  const content = contentOf(element, 135);
  if (content.length === 4) return content.join(".");
  if (content.length !== 16) return hexOf(element);
  const groups = content.toString("hex").match(/.{4}/g);
  return new SocketAddress2({ address: groups?.join(":"), family: "ipv6" }).address;
}
var OTHER_NAME = 160;
var USER_PRINCIPAL_NAME = "+\x827";

// lib/clients/certificate-parts.ts
function partsOf2(leaf2, labels2) {
  const known = /* @__PURE__ */ new Map();
  let subject;
  let issuer;
  function read(name) {
    if (name === FINGERPRINT) return [leaf2.fingerprint256.replaceAll(":", "").toLowerCase()];
    if (name === SERIAL_NUMBER) return [canonicalSerial(leaf2.serialNumber)];
    if (name === ISSUED_BY) return [...labels2];
    const [whose, key] = name.split(" ");
    if (whose === "san") return [...new Set(alternativeNamesOf(leaf2).filter(({ kind }) => kind === key).map(({ value }) => value))];
    const values = attributeValues(whose === "subject" ? subject ??= subjectOf(leaf2) : issuer ??= issuerOf(leaf2), key);
    return values.length === 0 ? [] : [attributeValue(values)];
  }
  return {
    valuesOf(name) {
      let values = known.get(name);
      if (values === void 0) known.set(name, values = read(name));
      return values;
    }
  };
}

// .tmp-try/look.ts
import { X509Certificate as X509Certificate2 } from "node:crypto";

// test/fixtures/pki.ts
import { randomBytes } from "node:crypto";

// lib/x509/crl.ts
import { createHash, createVerify, hash, verify } from "node:crypto";
import { promisify } from "node:util";

// lib/x509/crl-entries.ts
import { randomFillSync } from "node:crypto";
var LEAST_DATE = 15;
var LEAST_ENTRY = LEAST_DATE + 5;
var LARGEST_ENTRY = 16 * 1024;
var LONGEST_NUMBER = 64;
var PIECE3 = 32 * 1024;
var REASON_CODE = idOf("2.5.29.21");
var REASON = Buffer.from("300a0603551d1504030a01", "hex");
var INVALIDITY_DATE = Buffer.from("30180603551d180411180f", "hex");
var REASON_LENGTH = REASON.length + 1;
var INVALIDITY_DATE_LENGTH = INVALIDITY_DATE.length + 15;
var CODE = Buffer.from("0a01", "hex");
var RANDOM = randomFillSync(new Uint32Array(LONGEST_NUMBER * 256));

// lib/x509/certificate-policies.ts
var CERTIFICATE_POLICIES = idOf("2.5.29.32");
var POLICY_MAPPINGS = idOf("2.5.29.33");
var POLICY_CONSTRAINTS = idOf("2.5.29.36");
var INHIBIT_ANY_POLICY = idOf("2.5.29.54");
var POLICY_EXTENSIONS = [CERTIFICATE_POLICIES, POLICY_MAPPINGS, POLICY_CONSTRAINTS, INHIBIT_ANY_POLICY];
var ANY_POLICY = idOf("2.5.29.32.0");
var CPS = idOf("1.3.6.1.5.5.7.2.1");
var USER_NOTICE = idOf("1.3.6.1.5.5.7.2.2");
var NONE = Object.freeze({ named: /* @__PURE__ */ new Set(), hasAny: false, mappings: [], requireExplicit: Infinity, inhibitMapping: Infinity, inhibitAny: Infinity });

// lib/x509/key-usage.ts
var KEY_USAGE = idOf("2.5.29.15");
var BASIC_CONSTRAINTS = idOf("2.5.29.19");
var EXTENDED_KEY_USAGE = idOf("2.5.29.37");
var NETSCAPE_TYPE = idOf("2.16.840.1.113730.1.1");
var CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";
var CLIENT_AUTH_ID = idOf(CLIENT_AUTH);
var HANDLED = /* @__PURE__ */ new Set([
  KEY_USAGE,
  BASIC_CONSTRAINTS,
  EXTENDED_KEY_USAGE,
  NETSCAPE_TYPE,
  ...POLICY_EXTENSIONS,
  ...[
    "2.5.29.17",
    // subjectAltName
    "2.5.29.30",
    // nameConstraints
    "2.5.29.31",
    // cRLDistributionPoints
    "1.3.6.1.5.5.7.48.1.5"
    // OCSP noCheck
  ].map(idOf)
]);
var REFUSED = [
  "1.3.6.1.5.5.7.1.7",
  // IP address blocks (RFC 3779)
  "1.3.6.1.5.5.7.1.8",
  // autonomous system numbers (RFC 3779)
  "1.3.6.1.5.5.7.1.14"
  // proxyCertInfo (RFC 3820): issued by an end entity, not by a CA
].map(idOf);
var VERSION_3 = Buffer.of(2, 1, 2);

// lib/x509/keys.ts
var EC_PUBLIC_KEY = octetsOf("1.2.840.10045.2.1");
var SIZES = new Map(Object.entries({
  "1.2.840.113549.1.1.1": modulusBits,
  // RSASSA-PSS
  "1.2.840.113549.1.1.10": modulusBits,
  // DSA: the prime p is the first parameter. There are none where they are inherited from the issuer (RFC 3279 §2.3.2).
  "1.2.840.10040.4.1": (_info, _key, parameters) => bitsIn(elementsIn(parameters, SEQUENCE)[0]),
  "1.2.840.10045.2.1": (info) => curveOf(info)?.bits,
  // Ed25519 and Ed448 have one size each (RFC 8032 §5.1 and §5.2): the numbers that OpenSSL's `s_client` prints.
  "1.3.101.112": () => 256,
  "1.3.101.113": () => 456
}).map(([id, read]) => [octetsOf(id).toString("latin1"), read]));
var PRIME_CURVES = {
  // SEC 2
  "1.3.132.0": { 6: 112, 7: 110, 8: 161, 9: 161, 10: 256, 28: 128, 29: 126, 30: 161, 31: 192, 32: 225, 33: 224, 34: 384, 35: 521 },
  // ANSI X9.62: prime192v1 to prime256v1
  "1.2.840.10045.3.1": { 1: 192, 2: 192, 3: 192, 4: 239, 5: 239, 6: 239, 7: 256 },
  // RFC 5639, brainpool: random and twisted
  "1.3.36.3.3.2.8.1.1": { 1: 160, 2: 160, 3: 192, 4: 192, 5: 224, 6: 224, 7: 256, 8: 256, 9: 320, 10: 320, 11: 384, 12: 384, 13: 512, 14: 512 },
  // WTLS
  "2.23.43.1.4": { 6: 112, 7: 161, 8: 113, 9: 161, 12: 224 },
  // SM2
  "1.2.156.10197.1": { 301: 256 }
};
var BINARY_CURVES = {
  "1.3.132.0": { 1: 163, 2: 162, 3: 238, 4: 113, 5: 113, 15: 163, 16: 281, 17: 282, 22: 131, 23: 131, 24: 193, 25: 193, 26: 232, 27: 233, 36: 407, 37: 409, 38: 570, 39: 570 },
  "1.2.840.10045.3.0": { 1: 163, 2: 162, 3: 162, 4: 161, 5: 191, 6: 190, 7: 189, 10: 193, 11: 238, 12: 237, 13: 236, 16: 257, 17: 289, 18: 353, 19: 353, 20: 418 },
  "2.23.43.1.4": { 1: 112, 3: 163, 4: 113, 5: 163, 10: 232, 11: 233 }
};
var CURVES = new Map([...curvesOf(PRIME_CURVES, false), ...curvesOf(BINARY_CURVES, true)]);
var POINTS = [2, 3, 4, 6, 7];
function keyBits(certificate) {
  if (certificate === void 0) return void 0;
  return readOr(() => {
    const info = fieldsOf(certificate).publicKey;
    const [algorithm, key] = elementsIn(info, SEQUENCE);
    const [type, parameters] = elementsIn(algorithm, SEQUENCE);
    return SIZES.get(contentOf(type, OBJECT_IDENTIFIER).toString("latin1"))?.(info, key, parameters);
  }, void 0);
}
function publicKeyOf(certificate) {
  return readOr(() => derOf(fieldsOf(certificate).publicKey).toString("base64"), "");
}
function modulusBits(_info, key) {
  const content = contentOf(key, BIT_STRING);
  const [unused] = content;
  return unused === 0 ? bitsIn(elementsIn(elementOf(content.subarray(1)), SEQUENCE)[0]) : void 0;
}
function bitsIn(integer2) {
  const content = contentOf(integer2, INTEGER);
  const first = content.findIndex((octet) => octet !== 0);
  return first === -1 ? void 0 : (content.length - first) * 8 - (Math.clz32(content[first]) - 24);
}
function curveOf(info) {
  const [algorithm, key] = elementsIn(info, SEQUENCE);
  const [type, parameters] = elementsIn(algorithm, SEQUENCE);
  if (!contentOf(type, OBJECT_IDENTIFIER).equals(EC_PUBLIC_KEY) || parameters?.tag !== OBJECT_IDENTIFIER) return void 0;
  const [unused, form] = contentOf(key, BIT_STRING);
  return unused === 0 && POINTS.includes(form) ? CURVES.get(contentOf(parameters, OBJECT_IDENTIFIER).toString("latin1")) : void 0;
}
function curvesOf(table, isBinary) {
  return Object.entries(table).flatMap(([arc, all]) => Object.entries(all).map(([last3, bits3]) => [octetsOf(`${arc}.${last3}`).toString("latin1"), { bits: bits3, isBinary }]));
}
var MOST_EXPONENT = 2n ** 64n;
var RSASSA_PSS = idOf("1.2.840.113549.1.1.10");
var MGF1 = idOf("1.2.840.113549.1.1.8");
var HASHES = /* @__PURE__ */ new Map([
  [idOf("2.16.840.1.101.3.4.2.1"), "sha256"],
  [idOf("2.16.840.1.101.3.4.2.2"), "sha384"],
  [idOf("2.16.840.1.101.3.4.2.3"), "sha512"],
  [idOf("2.16.840.1.101.3.4.2.4"), "sha224"]
]);
var SCHEMES = /* @__PURE__ */ new Map([
  [idOf("1.2.840.113549.1.1.14"), { keys: ["rsa"], hash: "sha224" }],
  [idOf("1.2.840.113549.1.1.11"), { keys: ["rsa"], hash: "sha256" }],
  [idOf("1.2.840.113549.1.1.12"), { keys: ["rsa"], hash: "sha384" }],
  [idOf("1.2.840.113549.1.1.13"), { keys: ["rsa"], hash: "sha512" }],
  [idOf("1.2.840.10045.4.3.1"), { keys: ["ec"], hash: "sha224" }],
  [idOf("1.2.840.10045.4.3.2"), { keys: ["ec"], hash: "sha256" }],
  [idOf("1.2.840.10045.4.3.3"), { keys: ["ec"], hash: "sha384" }],
  [idOf("1.2.840.10045.4.3.4"), { keys: ["ec"], hash: "sha512" }],
  [idOf("1.3.101.112"), { keys: ["ed25519"] }],
  [idOf("1.3.101.113"), { keys: ["ed448"] }]
]);
var LEGACY_SCHEMES = new Set(["1.2.840.113549.1.1.5", "1.2.840.10045.4.1"].map(idOf));

// lib/x509/name-constraints.ts
var MOST_PAIRS = 1 << 20;
var NAME_CONSTRAINTS = idOf("2.5.29.30");
var SUBJECT_ALT_NAME2 = idOf("2.5.29.17");
var COMMON_NAME = octetsOf("2.5.4.3");
var EMAIL_ADDRESS = octetsOf("1.2.840.113549.1.9.1");

// lib/x509/parsed-certificate.ts
var SUBJECT_KEY_IDENTIFIER = idOf("2.5.29.14");
var AUTHORITY_KEY_IDENTIFIER = idOf("2.5.29.35");

// lib/x509/crl.ts
var CRL_NUMBER = idOf("2.5.29.20");
var DELTA_CRL_INDICATOR = idOf("2.5.29.27");
var ISSUING_DISTRIBUTION_POINT = idOf("2.5.29.28");
var VERSION_2 = Buffer.of(1);
var LARGEST_REST = 64 * 1024;
var DISTRIBUTION_POINTS = idOf("2.5.29.31");
var TRUE = Buffer.of(255);
var EVERYTHING = Object.freeze({ key: "", unusable: void 0, covers: () => true });
var verifyInPool = promisify(verify);
var last2 = Promise.resolve();

// lib/files/pem.ts
var LARGEST2 = 128 * 1024 * 1024;

// lib/tls/private-key.ts
var PBES2 = idOf("1.2.840.113549.1.5.13");
var PBKDF2 = idOf("1.2.840.113549.1.5.12");
var SCRYPT = idOf("1.3.6.1.4.1.11591.4.11");
var DATA = idOf("1.2.840.113549.1.7.1");
var [KEY_BAG, SHROUDED_KEY_BAG, CERTIFICATE_BAG] = [1, 2, 3].map((last3) => idOf(`1.2.840.113549.1.12.10.1.${last3}`));
var OLDER_ALGORITHMS = [idOf("1.2.840.113549.1.5"), idOf("1.2.840.113549.1.12.1")];

// lib/tls/development/certificate-set.ts
var LEAST_TIME_LEFT = 7 * 24 * 60 * 60 * 1e3;
var DNS_NAME = 130;
var IP_ADDRESS = 135;
var EVERYTHING2 = [
  ["dns", der(DNS_NAME)],
  ["ip", der(IP_ADDRESS, Buffer.alloc(8))],
  ["ip", der(IP_ADDRESS, Buffer.alloc(32))]
];
function octetsOfAddress(host) {
  return Buffer.from(host.includes(":") ? octetsOfGroups(host) : host.split(".").map(Number));
}
function octetsOfGroups(host) {
  const [head, tail] = host.split("::").map((groups2) => groups2.split(":").filter(Boolean));
  const groups = tail === void 0 ? head : [...head, ...Array(8 - head.length - tail.length).fill("0"), ...tail];
  return groups.map((group) => parseInt(group, 16)).flatMap((group) => [group >> 8, group & 255]);
}

// test/fixtures/chains.ts
import { constants, createHash as createHash2, generateKeyPairSync, sign, X509Certificate } from "node:crypto";

// test/fixtures/time.ts
var MINUTE = 6e4;
var HOUR = 60 * MINUTE;
var DAY = 24 * HOUR;

// lib/x509/details.ts
var NO_NAMES2 = Object.freeze({ subject: "", issuer: "" });
var fields = [
  ["isPresent", ({ details }) => String(details.isPresent)],
  ["isValid", ({ details }) => String(details.isValid)],
  ["flags", ({ details }) => String(details.flags)],
  ["cookie", ({ details }) => details.cookie],
  ["subject", ({ details }) => details.subject],
  ["issuer", ({ details }) => details.issuer],
  ["serialNumber", ({ details }) => details.serialNumber],
  ["validFrom", ({ details }) => httpDate(details.validFrom)],
  ["validUntil", ({ details }) => httpDate(details.validUntil)],
  ["serverSubject", ({ details }) => details.serverSubject],
  ["serverIssuer", ({ details }) => details.serverIssuer]
];
var attributes = [
  ...attributesOf("Subject", ({ certificate }) => subjectOf(certificate)),
  ...attributesOf("Issuer", ({ certificate }) => issuerOf(certificate)),
  ...attributesOf("ServerSubject", ({ server }) => subjectOf(server)),
  ...attributesOf("ServerIssuer", ({ server }) => issuerOf(server))
];
var others = [
  ["KeySize", ({ certificate }) => bits(certificate)],
  ["SecretKeySize", ({ server }) => bits(server)],
  ["Certificate", ({ certificate }) => certificate.raw.toString("base64")],
  ["PublicKey", ({ certificate }) => publicKeyOf(certificate)],
  ["Encoding", () => "1"],
  // X.509 in ASN.1, the only one there is
  ["Fingerprint256", ({ certificate }) => certificate.fingerprint256],
  ["x5t#S256", ({ certificate }) => Buffer.from(certificate.fingerprint256.replaceAll(":", ""), "hex").toString("base64url")],
  ["SubjectAltName", ({ certificate }) => alternativeNamesOf(certificate).map(formatAlternativeName).join(";")],
  ...["DNS", "URI", "email", "IP", "UPN"].map((kind) => [`SAN:${kind}`, ({ certificate }) => alternativeValues(certificate, kind)])
];
var entries = [...fields, ...attributes, ...others];
var readers = new Map(entries.map(([key, read]) => [key.toLowerCase(), read]));
var certificateValueKeys = Object.freeze(entries.map(([key]) => key));
function attributesOf(prefix, nameOf) {
  return attributeKeys.map((key) => [`${prefix}${key}`, (source) => attributeValue2(nameOf(source), key)]);
}
function alternativeValues(certificate, kind) {
  return alternativeNamesOf(certificate).filter((name) => name.kind === kind).map(({ value }) => value).join(";");
}
function bits(certificate) {
  return String(keyBits(certificate) ?? "");
}
function httpDate(date) {
  return date?.toUTCString() ?? "";
}

// test/fixtures/chains.ts
var seq = (...contents) => der(tags.sequence, ...contents);
var oid = (dotted) => der(6, octetsOf(dotted));
var text = (value, type = 12) => der(type, type === 30 ? Buffer.from(value, "utf16le").swap16() : Buffer.from(value, type === 12 ? "utf8" : "latin1"));
var integer = (value) => der(2, ...value < 128 ? [Buffer.of(value)] : [Buffer.of(0), Buffer.from(value.toString(16), "hex")]);
var NULL = Buffer.of(5, 0);
var bits2 = (...octets) => der(3, Buffer.of(0, ...octets));
var TYPES = { CN: "2.5.4.3", O: "2.5.4.10", OU: "2.5.4.11", C: "2.5.4.6", emailAddress: "1.2.840.113549.1.9.1" };
function dn(line) {
  return seq(...line.split(", ").filter(Boolean).map((rdn) => der(tags.set, ...rdn.split(" + ").map((attribute) => {
    const [, type, string, value] = /^(\w+)=(?:\[(\d+)\])?([^]*)$/.exec(attribute);
    return seq(oid(TYPES[type]), text(value, Number(string ?? (type === "emailAddress" ? 22 : 12))));
  }))));
}
var extension = (id, value, critical = false) => seq(oid(id), ...critical ? [Buffer.of(1, 1, 255)] : [], der(tags.octetString, value));
var constraints = (ca2, length2) => extension("2.5.29.19", seq(...ca2 ? [Buffer.of(1, 1, 255)] : [], ...length2 === void 0 ? [] : [integer(length2)]), true);
var usage = (...octets) => extension("2.5.29.15", bits2(...octets), true);
var purposes = (...ids) => extension("2.5.29.37", seq(...ids.map(oid)));
var CLIENT = "1.3.6.1.5.5.7.3.2";
var SERVER = "1.3.6.1.5.5.7.3.1";
var SIGNS = 128;
var CERTIFIES = 4;
var LISTS = 2;
var names = {
  email: (value) => der(129, Buffer.from(value, "latin1")),
  dns: (value) => der(130, Buffer.from(value, "latin1")),
  uri: (value) => der(134, Buffer.from(value, "latin1")),
  ip: (...octets) => der(135, Buffer.from(octets)),
  dir: (line) => der(164, dn(line)),
  rid: (dotted) => der(136, octetsOf(dotted)),
  other: (dotted, value) => der(160, oid(dotted), der(160, text(value)))
};
var alternatives = (...all) => extension("2.5.29.17", seq(...all));
var makers = {
  P256: () => generateKeyPairSync("ec", { namedCurve: "P-256" }),
  P384: () => generateKeyPairSync("ec", { namedCurve: "P-384" }),
  P192: () => generateKeyPairSync("ec", { namedCurve: "prime192v1" }),
  brainpool: () => generateKeyPairSync("ec", { namedCurve: "brainpoolP256r1" }),
  sect283: () => generateKeyPairSync("ec", { namedCurve: "sect283r1" }),
  explicit: () => generateKeyPairSync("ec", { namedCurve: "P-256", paramEncoding: "explicit" }),
  ed25519: () => generateKeyPairSync("ed25519"),
  ed448: () => generateKeyPairSync("ed448"),
  x25519: () => generateKeyPairSync("x25519"),
  rsa: () => generateKeyPairSync("rsa", { modulusLength: 2048 }),
  rsa1024: () => generateKeyPairSync("rsa", { modulusLength: 1024 }),
  pss: () => generateKeyPairSync("rsa-pss", { modulusLength: 2048 }),
  dsa: () => generateKeyPairSync("dsa", { modulusLength: 2048, divisorLength: 256 })
};
var sha2 = (last3) => seq(oid(`2.16.840.1.101.3.4.2.${last3}`), NULL);
var SHA1 = seq(oid("1.3.14.3.2.26"), NULL);
var pss = ({ hash: hash2 = sha2(1), mask = hash2, generator = "1.2.840.113549.1.1.8", salt = 32 }) => seq(oid("1.2.840.113549.1.1.10"), seq(der(160, hash2), der(161, seq(oid(generator), mask)), ...salt === 20 ? [] : [der(162, integer(salt))]));
var algorithms = {
  ecdsaSha256: { id: seq(oid("1.2.840.10045.4.3.2")), hash: "sha256" },
  ecdsaSha384: { id: seq(oid("1.2.840.10045.4.3.3")), hash: "sha384" },
  ecdsaSha512: { id: seq(oid("1.2.840.10045.4.3.4")), hash: "sha512" },
  ecdsaSha224: { id: seq(oid("1.2.840.10045.4.3.1")), hash: "sha224" },
  ecdsaSha1: { id: seq(oid("1.2.840.10045.4.1")), hash: "sha1" },
  rsaSha256: { id: seq(oid("1.2.840.113549.1.1.11"), NULL), hash: "sha256" },
  rsaSha512: { id: seq(oid("1.2.840.113549.1.1.13"), NULL), hash: "sha512" },
  rsaSha1: { id: seq(oid("1.2.840.113549.1.1.5"), NULL), hash: "sha1" },
  rsaMd5: { id: seq(oid("1.2.840.113549.1.1.4"), NULL), hash: "md5" },
  pss: { id: pss({}), hash: "sha256", salt: 32 },
  pss20: { id: pss({ salt: 20 }), hash: "sha256", salt: 20 },
  pssSha384: { id: pss({ hash: sha2(2), salt: 48 }), hash: "sha384", salt: 48 },
  pssSha1: { id: seq(oid("1.2.840.113549.1.1.10"), seq()), hash: "sha1", salt: 20 },
  pssOddHash: { id: pss({ hash: SHA1 }), hash: "sha1", salt: 32 },
  pssOddMask: { id: pss({ mask: SHA1 }), hash: "sha256", salt: 32 },
  pssOddGenerator: { id: pss({ generator: "1.2.3.4.5" }), hash: "sha256", salt: 32 },
  ed25519: { id: seq(oid("1.3.101.112")) },
  ed448: { id: seq(oid("1.3.101.113")) },
  dsaSha256: { id: seq(oid("2.16.840.1.101.3.4.3.2")), hash: "sha256" }
};
var usual = { P256: "ecdsaSha256", P384: "ecdsaSha384", P192: "ecdsaSha256", brainpool: "ecdsaSha256", explicit: "ecdsaSha256", sect283: "ecdsaSha256", ed25519: "ed25519", ed448: "ed448", x25519: "ed25519", rsa: "rsaSha256", rsa1024: "rsaSha256", pss: "pss", dsa: "dsaSha256" };
var MOST = { rsa: 2, rsa1024: 1, pss: 2, dsa: 1 };
var cached = /* @__PURE__ */ new Map();
var turn = 0;
function keysOf(kind) {
  const most = MOST[kind];
  if (most === void 0) return makers[kind]();
  const all = cached.get(kind) ?? [];
  cached.set(kind, all);
  if (all.length === most) return all[turn++ % most];
  all.push(makers[kind]());
  return all.at(-1);
}
var counter = 0;
var time = (at2) => der(24, Buffer.from(`${new Date(at2).toISOString().replace(/[-:T]|\.\d+/g, "")}`));
var validity = ([from, to]) => [time(Date.now() + from * DAY), time(Date.now() + to * DAY)];
function make(draft = {}) {
  const { issuer, ca: ca2 = false, kind = draft.like?.kind ?? "P256", version = 3, spoil = false } = draft;
  const keys = draft.like?.keys ?? keysOf(kind);
  const info = draft.info ?? keys.publicKey.export({ type: "spki", format: "der" });
  const keyId = createHash2("sha1").update(info).digest();
  const subject = draft.subject ?? (ca2 ? `CN=Authority ${++counter}` : "CN=Jane, O=Acme");
  const name = typeof subject === "string" ? dn(subject) : subject;
  const issuerName = draft.issuerName ?? issuer?.name ?? name;
  const serial = draft.serial === void 0 ? der(2, Buffer.of(64, ...Buffer.alloc(4, 1).map(() => Math.random() * 256), ++counter >> 8, counter)) : typeof draft.serial === "number" ? integer(draft.serial) : der(2, draft.serial);
  const extensions = {
    ...ca2 ? { constraints: constraints(true), usage: usage(CERTIFIES | LISTS) } : { usage: usage(SIGNS), purposes: purposes(CLIENT) },
    subjectKey: extension("2.5.29.14", der(tags.octetString, keyId)),
    authorityKey: extension("2.5.29.35", seq(der(128, issuer?.keyId ?? keyId))),
    ...draft.extensions
  };
  const all = Object.values(extensions).filter((extension2) => extension2 !== void 0);
  const signer = issuer ?? { keys, kind };
  const algorithm = algorithms[draft.algorithm ?? usual[signer.kind]];
  const tbs = seq(
    ...version === 1 ? [] : [der(160, integer(version - 1))],
    serial,
    draft.inner === void 0 ? algorithm.id : algorithms[draft.inner].id,
    issuerName,
    seq(...draft.validity ?? validity(draft.days ?? [-1, 30])),
    name,
    info,
    ...draft.uniqueIds === true ? [der(129, Buffer.of(0, 1)), der(130, Buffer.of(0, 2))] : [],
    ...version === 1 || all.length === 0 ? [] : [der(163, seq(...all))]
  );
  const raw = signed(tbs, algorithm, signer.keys.privateKey, spoil);
  return { der: raw, pem: pemOf2("CERTIFICATE", raw), certificate: new X509Certificate(raw), name, issuerName, serial, keys, kind, keyId };
}
function pemOf2(label, raw) {
  return `-----BEGIN ${label}-----
${Buffer.from(raw).toString("base64").replace(/.{64}(?=.)/g, "$&\n")}
-----END ${label}-----
`;
}
function signed(tbs, { id, hash: hash2, salt }, key, spoil) {
  const how = salt === void 0 ? { key } : { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: salt };
  const signature = sign(hash2, tbs, how);
  if (spoil) signature[signature.length - 1] ^= 1;
  return seq(tbs, id, der(3, Buffer.of(0), signature));
}

// test/fixtures/crls.ts
var DATE = text("20200101000000Z", 24);

// test/fixtures/pki.ts
var KINDS = { EC: "P256", RSA: "rsa", Ed: "ed25519" };
var NAMES = {
  dns: names.dns,
  ip: (value) => names.ip(...octetsOfAddress(value)),
  email: names.email
};
async function authority(name, days = [-1, 30]) {
  return identityOf(name, make({ ca: true, subject: `CN=${name}`, serial: randomSerial(), validity: validity2(days), extensions: { authorityKey: void 0 } }));
}
async function issue(issuer, options = {}) {
  return certify(issuer.made, options);
}
function certify(issuer, options) {
  const { subject = "CN=Jane", days = [-1, 30], purpose = "client", ca: ca2 = false, keys = "EC", serialNumber, san } = options;
  return identityOf(String(subject), make({
    ...issuer && { issuer },
    ca: ca2,
    subject: typeof subject === "string" ? dn(subject) : subject,
    kind: KINDS[keys],
    serial: serialNumber === void 0 ? randomSerial() : Buffer.from(serialNumber, "hex"),
    validity: validity2(days),
    extensions: {
      constraints: constraints(ca2),
      usage: ca2 ? usage(CERTIFIES | LISTS) : void 0,
      purposes: purpose === "none" ? void 0 : purposes(purpose === "client" ? CLIENT : SERVER),
      ...san && { san: alternatives(...san.map(({ type, value }) => NAMES[type](value))) }
    }
  }));
}
function identityOf(name, made) {
  return { name, made, certificate: made.certificate, cert: made.pem, key: made.keys.privateKey.export({ type: "pkcs8", format: "pem" }) };
}
function validity2([from, to]) {
  const time2 = (days) => text(new Date(Date.now() + days * DAY).toISOString().replace(/^..|[-:T]|\.\d+/g, ""), 23);
  return [time2(from), time2(to)];
}
function randomSerial() {
  const bytes = randomBytes(12);
  bytes[0] = 64 | bytes[0] & 63;
  return bytes;
}

// .tmp-try/look.ts
var ca = await authority("P");
var leaf = await issue(ca, { subject: "CN=client-777, O=Acme", san: [{ type: "dns", value: "client-777.test" }] });
var clients = Object.fromEntries(Array.from({ length: 1e4 }, (_, n) => [`client-${n}`, { certificates: [{ subject: { CN: `client-${n}`, O: "Acme" }, issuedBy: "partners" }] }]));
var c = await resolveClients({ clients }, "x");
var labels = /* @__PURE__ */ new Set(["partners"]);
for (const [name, f] of Object.entries({
  find: (x) => c.find(partsOf2(x, labels)).length,
  subject: (x) => subjectOf(x),
  fields: (x) => fieldsOf(x),
  sans: (x) => alternativeNamesOf(x)
})) {
  const figures = [];
  for (let r = 0; r < 30; r++) {
    const certs = Array.from({ length: 500 }, () => new X509Certificate2(leaf.cert));
    for (const x of certs) {
      x.fingerprint256;
      x.raw;
    }
    const e = process.cpuUsage().user;
    const s = performance.now();
    for (const x of certs) f(x);
    figures.push((performance.now() - s) * 1e3 / 500);
  }
  figures.sort((a, b) => a - b);
  console.log(name, figures[0].toFixed(2), figures[15].toFixed(2));
}
