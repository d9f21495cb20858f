'use strict'
// The DHT nodes of one process, by name; other scripts add their commands on top of these.

const dgram = require('dgram')
const { unhex } = require('./lines.js')

const HOST = '127.0.0.1'
const packages = { rpc: 'dht-rpc', hyperdht: 'hyperdht', older: 'hyperdht-older' }
const nodes = new Map()

function get (name) {
  if (!nodes.has(name)) throw new Error('No DHT node is called ' + name)
  return nodes.get(name)
}

// A port that nobody has at the moment: bootstrappers have to know theirs beforehand.
function freePort () {
  return new Promise((resolve, reject) => {
    const socket = dgram.createSocket('udp4')
    socket.once('error', reject)
    socket.bind(0, HOST, () => {
      const { port } = socket.address()
      socket.close(() => resolve(port))
    })
  })
}

function status (dht) {
  return {
    id: dht.id ? Buffer.from(dht.id).toString('hex') : null,
    host: dht.host,
    port: dht.port,
    localPort: dht.io.serverSocket ? dht.io.serverSocket.address().port : null,
    clientPort: dht.io.clientSocket ? dht.io.clientSocket.address().port : null,
    ephemeral: dht.ephemeral,
    firewalled: dht.firewalled,
    online: dht.online,
    nodes: dht.nodes.length,
    stats: { queries: dht.stats.queries, requests: dht.stats.requests }
  }
}

async function start (name, { kind = 'rpc', bootstrapper = false, ...options }) {
  // Without them hyperdht would ask the public ones.
  if (!bootstrapper && !Array.isArray(options.bootstrap)) throw new Error('Bootstrap nodes are missing')
  const DHT = require(packages[kind])
  const dht = bootstrapper
    ? DHT.bootstrapper(options.port || await freePort(), HOST, { ...options, host: HOST })
    : new DHT({ ...options, host: HOST, ...(options.seed ? { seed: unhex(options.seed) } : {}) })
  nodes.set(name, dht)
  await dht.fullyBootstrapped()
  return dht
}

module.exports = {
  HOST,
  nodes,
  get,
  start,
  status,
  commands: {
    // One node, and what it is once it is bootstrapped.
    start: async ({ name, ...options }) => status(await start(name, options)),
    // `count` nodes, one after the other or all `together`, called `<name>0`, `<name>1`, ...
    startMany: async ({ name, count, together = false, ...options }) => {
      const names = Array.from({ length: count }, (_, n) => name + n)
      if (together) return (await Promise.all(names.map((name) => start(name, options)))).map(status)
      const all = []
      for (const name of names) all.push(status(await start(name, options)))
      return all
    },
    status: ({ name }) => status(get(name)),
    known: ({ name }) => get(name).toArray().map(({ host, port }) => ({ host, port })),
    suspend: ({ name }) => get(name).suspend(),
    resume: ({ name }) => get(name).resume(),
    destroy: async ({ name }) => {
      const dht = get(name)
      nodes.delete(name)
      await dht.destroy({ force: true })
    },
    close: async () => {
      await Promise.allSettled([...nodes.values()].map((dht) => dht.destroy({ force: true })))
    }
  }
}
