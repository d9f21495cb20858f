'use strict'
// A peer of today in the swarm: Corestore 7 over Hyperswarm 4, or plain connections that tell what comes in.
//
//   node swarm.js [FOLDER]

const Hyperswarm = require('hyperswarm')
const DHT = require('hyperdht')
const createTestnet = require('hyperdht/testnet')
const Corestore = require('corestore')
const Cores = require('./cores.js')
const { serve, event, hex, unhex } = require('./lines.js')

const [folder] = process.argv.slice(2)
const store = folder ? new Corestore(folder) : null
const cores = store ? new Cores(store) : null
const host = '127.0.0.1'
const connections = new Map()
const sessions = new Map()
let network = null
let swarm = null

function onconnection (connection, info) {
  const remote = hex(connection.remotePublicKey)
  connections.set(remote, connection)
  connection.on('error', () => {})
  connection.once('close', () => {
    if (connections.get(remote) === connection) connections.delete(remote)
    event('disconnect', { remote })
  })
  event('connection', { remote, client: info.client, topics: info.topics.map(hex), initiator: connection.isInitiator })
  if (store) store.replicate(connection)
  else connection.on('data', (data) => event('data', { remote, data: data.toString() }))
}

serve({
  ...(cores ? cores.commands() : {}),

  // A DHT of so many nodes; answers where to enter it.
  network: async ({ size = 3 }) => {
    network = await createTestnet(size, { host })
    return { bootstrap: network.bootstrap.map(({ host, port }) => host + ':' + port) }
  },

  swarm: async ({ bootstrap, seed, maxPeers, backoffs, jitter }) => {
    const nodes = bootstrap.map((node) => ({ host: node.split(':')[0], port: Number(node.split(':')[1]) }))
    const keyPair = seed ? DHT.keyPair(unhex(seed)) : store ? await store.createKeyPair('hyperswarm') : DHT.keyPair()
    swarm = new Hyperswarm({ keyPair, maxPeers, backoffs, jitter, dht: new DHT({ bootstrap: nodes, host }) })
    swarm.on('connection', onconnection)
    return { publicKey: hex(keyPair.publicKey) }
  },

  join: async ({ topic, server, client, flush = true }) => {
    const session = swarm.join(unhex(topic), { server, client })
    sessions.set(topic, session)
    if (flush) await session.flushed()
  },

  leave: ({ topic }) => swarm.leave(unhex(topic)).then(() => null),
  flush: () => swarm.flush().then(() => null),
  joinPeer: ({ publicKey }) => { swarm.joinPeer(unhex(publicKey)) },
  send: ({ remote, data }) => { connections.get(remote).write(data) },
  // Without a goodbye.
  cut: ({ remote }) => { connections.get(remote).destroy() },

  // Who is announced under a topic.
  lookup: async ({ topic }) => {
    const peers = new Set()
    for await (const data of swarm.dht.lookup(unhex(topic))) {
      for (const peer of data.peers) peers.add(hex(peer.publicKey))
    }
    return { peers: [...peers] }
  },

  open: async ({ core: label, name, key }) => {
    const core = store.get({ ...(name ? { name } : {}), ...(key ? { key: unhex(key) } : {}) })
    await core.ready()
    cores.add(label, core)
    return cores.info(core)
  },

  close: async () => {
    if (swarm) await swarm.destroy()
    if (network) await network.destroy()
    if (store) await store.close()
  }
})
