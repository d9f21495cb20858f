'use strict'
// Encodes one message of every kind and shape with npm hypercore 11.37.1 and prints `name hex` lines, for
// crates/hypercore-protocol/tests/vectors/wire-messages.txt:
//   node vectors/wire-messages.js > ../../crates/hypercore-protocol/tests/vectors/wire-messages.txt

const c = require('compact-encoding')
const b4a = require('b4a')
const { wire } = require('hypercore/lib/messages.js')
const caps = require('hypercore/lib/caps.js')
const crypto = require('hypercore-crypto')

const fill = (byte, n) => b4a.alloc(n, byte)
const node = (index, size, byte) => ({ index, size, hash: fill(byte, 32) })
const print = (name, buffer) => console.log(name + ' ' + b4a.toString(buffer, 'hex'))
const message = (name, kind, m) => print(name, c.encode(wire[kind], m))

const none = { block: null, hash: null, seek: null, upgrade: null, manifest: null }
const manifest = {
  version: 1,
  hash: 'blake2b',
  allowPatch: false,
  quorum: 1,
  signers: [{ signature: 'ed25519', namespace: caps.DEFAULT_NAMESPACE, publicKey: fill(7, 32) }],
  prologue: null,
  linked: null,
  userData: null
}

message('handshake', 'handshake', { seeks: true, capability: fill(9, 32) })
message('sync-plain', 'sync', { fork: 0, length: 0, remoteLength: 0 })
message('sync-all', 'sync', {
  fork: 3, length: 70000, remoteLength: 300, canUpgrade: true, uploading: true, downloading: true, hasManifest: true, allowPush: true
})
message('request-block', 'request', { ...none, id: 1, fork: 0, block: { index: 5, nodes: 2 }, priority: 0 })
message('request-hash', 'request', { ...none, id: 2, fork: 1, hash: { index: 11, nodes: 0 }, priority: 0 })
message('request-all', 'request', {
  id: 300,
  fork: 1,
  block: { index: 5000000000, nodes: 33 },
  hash: { index: 3, nodes: 1 },
  seek: { bytes: 100000, padding: 8 },
  upgrade: { start: 10, length: 20 },
  manifest: true,
  priority: 2
})
message('cancel', 'cancel', { request: 253 })
message('data-empty', 'data', { ...none, request: 1, fork: 0 })
message('data-block', 'data', {
  ...none, request: 1, fork: 2, block: { index: 4, value: b4a.from('hello'), nodes: [node(10, 5, 1), node(13, 12, 2)] }
})
message('data-large-block', 'data', {
  ...none, request: 1, fork: 2, block: { index: 4, value: fill(0xab, 5000), nodes: [node(10, 5, 1)] }
})
message('data-all', 'data', {
  request: 70000,
  fork: 1,
  block: { index: 4, value: fill(1, 0), nodes: [] },
  hash: { index: 9, nodes: [node(9, 1, 3)] },
  seek: { bytes: 17, nodes: [node(8, 2, 4)] },
  upgrade: { start: 0, length: 6, nodes: [node(3, 40, 5), node(9, 20, 6)], additionalNodes: [node(12, 10, 7)], signature: fill(8, 66) },
  manifest
})
message('data-static', 'data', {
  ...none, request: 4, fork: 0, upgrade: { start: 1, length: 1, nodes: [], additionalNodes: [], signature: null }
})
message('no-data', 'noData', { request: 9, reason: 0 })
message('no-data-reason', 'noData', { request: 9, reason: 2 })
message('want', 'want', { start: 32768, length: 32768, any: false })
message('want-any', 'want', { start: 0, length: 1, any: true })
message('unwant', 'unwant', { start: 32768, length: 32768, any: false })
message('unwant-any', 'unwant', { start: 0, length: 1, any: true })
message('bitfield', 'bitfield', { start: 32768, bitfield: new Uint32Array([1, 0x80000000, 0xdeadbeef]) })
message('range', 'range', { drop: false, start: 7, length: 300 })
message('range-one', 'range', { drop: true, start: 7, length: 1 })
message('range-none', 'range', { drop: false, start: 7, length: 0 })
message('extension', 'extension', { name: 'exämple', message: b4a.from('payload') })
message('extension-repeat', 'extension', { name: '', message: b4a.alloc(0) })
message('reorg-hint', 'reorgHint', { from: 1, to: 2, ancestors: 300 })

const key = fill(5, 32)
const handshakeHash = b4a.concat([fill(6, 32), fill(7, 32)])
print('discovery-key', crypto.discoveryKey(key))
print('capability-initiator', caps.replicate(true, key, handshakeHash))
print('capability-responder', caps.replicate(false, key, handshakeHash))
