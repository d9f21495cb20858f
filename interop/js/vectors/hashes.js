'use strict'
// Hashes, namespaces, names and key pairs as npm hypercore-crypto 3.7.0, hypercore 11.37.1 and hypercore-id-encoding
// make them, one `kind input... output` a line:
//   node vectors/hashes.js > ../../crates/hypercore/tests/vectors/hashes.txt

const b4a = require('b4a')
const crypto = require('hypercore-crypto')
const caps = require('hypercore/lib/caps.js')
const id = require('hypercore-id-encoding')

const fill = (byte, n = 32) => b4a.alloc(n, byte)
const counting = (n) => b4a.from(Array.from({ length: n }, (_, i) => (i * 7 + (i >> 8)) & 255))
const print = (...parts) =>
  console.log(parts.map((part) => (b4a.isBuffer(part) ? b4a.toString(part, 'hex') || '-' : String(part))).join(' '))

for (const n of [0, 1, 55, 118, 119, 120, 127, 128, 129, 1000, 4095, 4096, 4097, 65536]) {
  print('leaf', n, crypto.data(counting(n)))
}
const a = { index: 4, size: 10, hash: fill(1) }
const b = { index: 6, size: 70000, hash: fill(2) }
print('parent', crypto.parent(a, b))
print('parent', crypto.parent(b, a))
print('tree', 0, crypto.tree([]))
print('tree', 1, crypto.tree([a]))
print('tree', 2, crypto.tree([{ index: 1, size: 5, hash: fill(3) }, a]))

crypto.namespace('hypercore', 6).forEach((namespace, i) => print('namespace', 'hypercore', i, namespace))
crypto.namespace('corestore', 2).forEach((namespace, i) => print('namespace', 'corestore', i, namespace))

for (const key of [fill(0), fill(9), counting(32), fill(255)]) {
  print('discovery-key', key, crypto.discoveryKey(key))
  print('z32', key, id.encode(key))
  print('capability', true, key, counting(64), caps.replicate(true, key, counting(64)))
  print('capability', false, key, counting(64), caps.replicate(false, key, counting(64)))
}
print('signable', fill(5), fill(6), 7, 8, caps.treeSignable(fill(5), fill(6), 7, 8))
print('signable-compat', fill(6), 70000, 1, caps.treeSignableCompat(fill(6), 70000, 1))

for (const seed of [fill(0), fill(1), counting(32)]) {
  const pair = crypto.keyPair(seed)
  print('key-pair', seed, pair.publicKey, pair.secretKey)
  print('sign', seed, counting(112), crypto.sign(counting(112), pair.secretKey))
}
