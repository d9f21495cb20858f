'use strict'
// What one can ask of a HyperDHT, for nodes of this process: topics, servers, mutable and immutable records.

const { serve, hex, unhex } = require('./lines.js')
const { get, commands } = require('./dht-nodes.js')

const keyPair = (dht, seed) => dht.constructor.keyPair(unhex(seed))
const address = ({ host, port }) => host + ':' + port
const peer = ({ publicKey, relayAddresses }) => ({ publicKey: hex(publicKey), relayAddresses: relayAddresses.map(address) })
const garbage = () => Buffer.alloc(64, 1)

function relays (list) {
  return list.map((text) => {
    const [host, port] = text.split(':')
    return { host, port: Number(port) }
  })
}

async function found (query) {
  const all = []
  for await (const { from, peers, bump = 0 } of query) all.push({ from: address(from), peers: peers.map(peer), bump })
  return all
}

const servers = new Map()

serve({
  ...commands,

  announce: async ({ name, topic, seed, relayAddresses = [], bump = 0, clear = false, forge = false }) => {
    const dht = get(name)
    const options = { bump, clear, ...(forge ? { signAnnounce: garbage } : {}) }
    return found(dht.announce(unhex(topic), keyPair(dht, seed), relays(relayAddresses), options))
  },
  lookup: ({ name, topic }) => found(get(name).lookup(unhex(topic))),
  unannounce: async ({ name, topic, seed, forge = false }) => {
    const dht = get(name)
    await dht.unannounce(unhex(topic), keyPair(dht, seed), forge ? { signUnannounce: garbage } : {})
  },
  findPeer: async ({ name, publicKey }) => {
    const all = []
    for await (const found of get(name).findPeer(unhex(publicKey))) all.push({ from: address(found.from), peer: peer(found.peer) })
    return all
  },
  listen: async ({ name, seed }) => {
    const dht = get(name)
    const server = dht.createServer()
    await server.listen(keyPair(dht, seed))
    servers.set(seed, server)
    return { publicKey: hex(server.publicKey), relayAddresses: server.relayAddresses.map(address) }
  },
  unlisten: ({ seed }) => servers.get(seed).close(),

  immutablePut: async ({ name, value }) => {
    const { hash, closestNodes } = await get(name).immutablePut(unhex(value))
    return { hash: hex(hash), nodes: closestNodes.length }
  },
  immutableGet: async ({ name, hash }) => {
    const node = await get(name).immutableGet(unhex(hash))
    return node && hex(node.value)
  },
  mutablePut: async ({ name, seed, seq, value, forge = false }) => {
    const dht = get(name)
    const { publicKey, closestNodes } = await dht.mutablePut(keyPair(dht, seed), unhex(value), { seq, ...(forge ? { signMutable: garbage } : {}) })
    return { publicKey: hex(publicKey), nodes: closestNodes.length }
  },
  mutableGet: async ({ name, publicKey, seq = 0, latest = true }) => {
    const node = await get(name).mutableGet(unhex(publicKey), { seq, latest })
    return node && { seq: node.seq, value: hex(node.value), signature: hex(node.signature) }
  }
})
