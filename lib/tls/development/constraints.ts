/** What a development authority may vouch for. */
import * as x509 from '@peculiar/x509'
import { der, tag } from '../../material/encode.ts'
import type { Host } from './hosts.ts'

const NAME_CONSTRAINTS = '2.5.29.30'
const PERMITTED = 0xa0
const EXCLUDED = 0xa1

/** All there is of each type. A type that no constraint names is not constrained at all (RFC 5280 §4.2.1.10). */
const everything: readonly Host[] = [
  { type: 'dns', value: '' },
  { type: 'ip', value: '0.0.0.0/0' },
  { type: 'ip', value: '::/0' }
]

/**
 * The critical nameConstraints extension (RFC 5280 §4.2.1.10) that permits `hosts` and nothing else. A DNS name
 * permits the names below it too: the standard has no way to say less.
 */
export function nameConstraints (hosts: readonly Host[]): x509.Extension {
  const excluded = everything.filter(({ type }) => !hosts.some((host) => host.type === type))
  return new x509.Extension(NAME_CONSTRAINTS, true, der(tag.sequence,
    der(PERMITTED, ...hosts.map(permitted).map(subtree)),
    ...(excluded.length > 0 ? [der(EXCLUDED, ...excluded.map(subtree))] : [])))
}

function permitted ({ type, value }: Host): Host {
  if (type === 'dns') return { type, value: value.replace(/^\*\./, '') }
  return { type, value: `${value}/${value.includes(':') ? 128 : 32}` }
}

const subtree = ({ type, value }: Host): Buffer =>
  der(tag.sequence, new Uint8Array(new x509.GeneralName(type, value).rawData))
