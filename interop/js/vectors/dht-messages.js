'use strict'
// Messages of every kind and shape as npm hyperdht 6.34.0 encodes them, and what it signs and hashes, as `name hex` lines:
//   node vectors/dht-messages.js > ../../crates/hyperdht/tests/vectors/messages.txt

const b4a = require('b4a')
const c = require('compact-encoding')
const DHT = require('hyperdht')
const m = require('hyperdht/lib/messages')
const Persistent = require('hyperdht/lib/persistent')
const { NS } = require('hyperdht/lib/constants')

const fill = (byte, n = 32) => b4a.alloc(n, byte)
const at = (n) => ({ host: '10.1.2.' + n, port: 1000 * n })
const print = (name, buffer) => console.log(name + ' ' + b4a.toString(buffer, 'hex'))
const message = (name, kind, value) => print(name, c.encode(m[kind], value))

message('handshake-bare', 'handshake', { mode: 0, noise: fill(1, 5), peerAddress: null, relayAddress: null })
message('handshake-peer', 'handshake', { mode: 4, noise: fill(1, 5), peerAddress: at(2), relayAddress: null })
message('handshake-relay', 'handshake', { mode: 0, noise: fill(1, 5), peerAddress: null, relayAddress: at(3) })
message('handshake-both', 'handshake', { mode: 3, noise: fill(1, 300), peerAddress: at(2), relayAddress: at(3) })

const payload = { version: 1, error: 0, firewall: 0, holepunch: null, addresses4: [], addresses6: [], udx: null, secretStream: null, relayThrough: null, relayAddresses: null }
message('noise-payload-bare', 'noisePayload', payload)
message('noise-payload-error', 'noisePayload', { ...payload, error: 2, firewall: 3 })
message('noise-payload-all', 'noisePayload', {
  ...payload,
  firewall: 2,
  holepunch: { id: 300, relays: [{ relayAddress: at(4), peerAddress: at(5) }, { relayAddress: at(6), peerAddress: at(7) }] },
  addresses4: [at(8), at(9)],
  addresses6: [{ host: '2001:db8::7:8', port: 12345 }],
  udx: { reusableSocket: true, id: 70000, seq: 0 },
  secretStream: {},
  relayThrough: { publicKey: fill(3), token: fill(4) },
  relayAddresses: [at(10)]
})
message('noise-payload-empty-relays', 'noisePayload', { ...payload, relayAddresses: [], udx: { reusableSocket: false, id: 1, seq: 2 } })

message('holepunch-bare', 'holepunch', { mode: 0, id: 0, payload: fill(5, 7), peerAddress: null })
message('holepunch-peer', 'holepunch', { mode: 2, id: 70000, payload: fill(5, 7), peerAddress: at(2) })
const punch = { error: 0, firewall: 1, round: 0, connected: false, punching: false, addresses: null, remoteAddress: null, token: null, remoteToken: null }
message('holepunch-payload-bare', 'holepunchPayload', punch)
message('holepunch-payload-all', 'holepunchPayload', {
  error: 3, firewall: 2, round: 5, connected: true, punching: true, addresses: [at(1), at(2)], remoteAddress: at(3), token: fill(6), remoteToken: fill(7)
})

const peer = { publicKey: fill(8), relayAddresses: [at(1), at(2), at(3)] }
const lone = { publicKey: fill(9), relayAddresses: [] }
message('peer', 'peer', peer)
message('peer-lone', 'peer', lone)
const raw = (p) => c.encode(m.peer, p)
message('lookup-reply', 'lookupRawReply', { peers: [raw(peer), raw(lone)], bump: 1700000000000 })
message('lookup-reply-no-bump', 'lookupRawReply', { peers: [raw(lone)], bump: 0 })
print('lookup-reply-old', c.encode(m.peers, [peer, lone]))
message('announce', 'announce', { peer, refresh: null, signature: fill(1, 64), bump: 0 })
message('announce-all', 'announce', { peer, refresh: fill(2), signature: fill(1, 64), bump: 1700000000000 })
message('announce-refresh', 'announce', { peer: null, refresh: fill(2), signature: null, bump: 0 })
message('mutable-put', 'mutablePutRequest', { publicKey: fill(1), seq: 300, value: b4a.from('value'), signature: fill(2, 64) })
message('mutable-record', 'mutableGetResponse', { seq: 5000000000, value: b4a.from('value'), signature: fill(2, 64) })
print('seq', c.encode(c.uint, 70000))
message('plugin', 'pluginRequest', { plugin: 'name', version: 2, command: 300, value: b4a.from('abc') })
message('plugin-bare', 'pluginRequest', { plugin: 'name', version: 2, command: 3, value: null })

print('ns-announce', NS.ANNOUNCE)
print('ns-unannounce', NS.UNANNOUNCE)
print('ns-mutable-put', NS.MUTABLE_PUT)
print('ns-peer-handshake', NS.PEER_HANDSHAKE)
print('ns-peer-holepunch', NS.PEER_HOLEPUNCH)
print('ns-plugin', NS.PLUGIN)

const pair = DHT.keyPair(fill(7))
print('hash', DHT.hash(pair.publicKey))
print('sign-mutable', Persistent.signMutable(300, b4a.from('value'), pair))
print('sign-mutable-empty', Persistent.signMutable(0, b4a.alloc(0), pair))
const own = { publicKey: pair.publicKey, relayAddresses: [at(1), at(2)] }
print('sign-announce', Persistent.signAnnounce(fill(1), fill(2), fill(3), { peer: own, refresh: null }, pair))
print('sign-announce-refresh', Persistent.signAnnounce(fill(1), fill(2), fill(3), { peer: own, refresh: fill(4) }, pair))
print('sign-unannounce', Persistent.signUnannounce(fill(1), fill(2), fill(3), { peer: { ...own, relayAddresses: [] } }, pair))
