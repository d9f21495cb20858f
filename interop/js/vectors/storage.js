'use strict'
// Keys and records as npm hypercore-storage 3.3.1 (index-encoder 3.5.0) encodes them, one `name hex` a line:
//   node vectors/storage.js > ../../crates/hypercore/tests/vectors/storage.txt

const { store, core, group } = require('hypercore-storage/lib/keys.js')
const schema = require('hypercore-storage/encoding/spec/hyperschema')
const c = require('compact-encoding')
const f = (n) => Buffer.alloc(32, n)
const enc = (name, v) => c.encode(schema.getEncoding(name), v).toString('hex')
const out = []
const nums = [0, 1, 0xfb, 0xfc, 0xff, 0xffff, 0x10000, 0xffffffff, 0x100000000, Number.MAX_SAFE_INTEGER]
const keys = {
  head: store.head(), core: store.core(f(7)), coreStart: store.coreStart(), coreEnd: store.coreEnd(),
  alias: store.coreByAlias({ namespace: f(9), name: 'a\0b\u00e9' }), aliasEmpty: store.coreByAlias({ namespace: f(0), name: '' }),
  aliasStart: store.coreByAliasStart(null), aliasStartNs: store.coreByAliasStart(f(9)), aliasEnd: store.coreByAliasEnd(null), aliasEndNs: store.coreByAliasEnd(f(9)),
  auth: core.auth(300), sessions: core.sessions(300), group: core.group(70000), groupEntry: group.entry(300, 1700000000000, 70000), dhead: core.head(5), dependency: core.dependency(5), hints: core.hints(5),
  userData: core.userData(5, 'name'), userDataEnd: core.userDataEnd(5), local: core.local(5, Buffer.from([0, 1, 0xff])), localEnd: core.localEnd(5), mark: core.mark(5, 6),
  bitfield: core.bitfield(5, 300, 0), blockEnd: core.block(5, Infinity), treeEnd: core.tree(5, Infinity), bitfieldEnd: core.bitfield(5, Infinity, 0), data: core.data(251), data1: core.data(252)
}
for (const [k, v] of Object.entries(keys)) out.push(['key ' + k, v.toString('hex')])
for (const n of nums) { out.push(['block ' + n, core.block(n, n).toString('hex')]); out.push(['tree ' + n, core.tree(n, n).toString('hex')]) }
const signer = (n) => ({ signature: 'ed25519', namespace: f(n), publicKey: f(n + 1) })
const man = (o) => ({ version: 1, hash: 'blake2b', quorum: 1, allowPatch: false, signers: [signer(3)], prologue: null, linked: null, userData: null, ...o })
const recs = [
  ['store head empty', '@corestore/head', { version: 2, cores: 0, datas: 0, groups: 0, seed: null, defaultDiscoveryKey: null }],
  ['store head', '@corestore/head', { version: 2, cores: 300, datas: 70000, groups: 3, seed: f(1), defaultDiscoveryKey: f(2) }],
  ['store head seed', '@corestore/head', { version: 2, cores: 1, datas: 2, groups: 0, seed: f(1), defaultDiscoveryKey: null }],
  ['core', '@corestore/core', { version: 2, corePointer: 4, dataPointer: 500, alias: null }],
  ['core alias', '@corestore/core', { version: 2, corePointer: 4, dataPointer: 5, alias: { name: 'abc', namespace: f(8) } }],
  ['auth bare', '@core/auth', { key: f(1), discoveryKey: f(2), manifest: null, keyPair: null, encryptionKey: null }],
  ['auth', '@core/auth', { key: f(1), discoveryKey: f(2), manifest: man(), keyPair: { publicKey: f(4), secretKey: Buffer.alloc(64, 5) }, encryptionKey: f(6) }],
  ['auth public', '@core/auth', { key: f(1), discoveryKey: f(2), manifest: man({ version: 0, signers: [signer(3), signer(5)], quorum: 2, allowPatch: true }), keyPair: { publicKey: f(4), secretKey: null }, encryptionKey: null }],
  ['auth static', '@core/auth', { key: f(1), discoveryKey: f(2), manifest: man({ version: 0, signers: [], quorum: 0, prologue: { hash: f(7), length: 5 } }), keyPair: null, encryptionKey: null }],
  ['auth v2', '@core/auth', { key: f(1), discoveryKey: f(2), manifest: man({ version: 2, prologue: { hash: f(7), length: 5 }, linked: [f(8), f(9)], userData: Buffer.from('hello') }), keyPair: null, encryptionKey: null }],
  ['head', '@core/head', { fork: 1, length: 300, rootHash: f(1), signature: Buffer.alloc(64, 2), timestamp: 1700000000000 }],
  ['head unsigned', '@core/head', { fork: 0, length: 1, rootHash: f(1), signature: null, timestamp: 0 }],
  ['hints none', '@core/hints', { contiguousLength: 0, remoteContiguousLength: 0, recovering: 0 }],
  ['hints', '@core/hints', { contiguousLength: 5, remoteContiguousLength: 300, recovering: 1700000000000 }],
  ['hints remote', '@core/hints', { contiguousLength: 0, remoteContiguousLength: 7, recovering: 0 }],
  ['tree node', '@core/tree-node', { index: 300, size: 70000, hash: f(3) }],
  ['dependency', '@core/dependency', { dataPointer: 3, length: 1000 }],
  ['sessions', '@core/sessions', [{ name: 'a', dataPointer: 1 }, { name: 'batch', dataPointer: 300 }]],
  ['group', '@core/group', { key: f(3), pointer: 9 }]
]
for (const [n, e, v] of recs) out.push([n, enc(e, v)])
for (const [name, bytes] of out) console.log(name.replaceAll(' ', '-'), bytes)
