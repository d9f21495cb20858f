'use strict'
// Nodes of npm `hyperdht`, their servers and connections, by label. `older` takes hyperdht 6.20.

const relay = require('blind-relay')
const { serve, event, hex, unhex } = require('./lines.js')

const nodes = new Map()
const servers = new Map()
const sockets = new Map()
const nets = []
let accepted = 0

function hyperdht (older) {
  return older ? require('hyperdht-older') : require('hyperdht')
}

function keyPair (DHT, seed) {
  return seed ? DHT.keyPair(unhex(seed)) : DHT.keyPair()
}

// Every connection echoes what it gets when `echo` is set; otherwise what it gets is told.
function attach (label, socket, echo) {
  sockets.set(label, socket)
  let error = null
  socket.on('error', (err) => { error = err.code || err.message })
  socket.on('open', () => event('open', { socket: label, remotePublicKey: hex(socket.remotePublicKey), hash: hex(socket.handshakeHash) }))
  socket.on('data', (data) => {
    if (echo) socket.write(data)
    else event('data', { socket: label, data: hex(data) })
  })
  socket.on('end', () => { event('end', { socket: label }); socket.end() })
  socket.on('close', () => event('close', { socket: label, error }))
}

serve({
  // A network of full nodes on loopback.
  testnet: async ({ size, older = false }) => {
    const create = older ? require('hyperdht-older/testnet') : require('hyperdht/testnet')
    const net = await create(size, { host: '127.0.0.1' })
    nets.push(net)
    return net.bootstrap.map(({ host, port }) => host + ':' + port)
  },
  // A node; `full` makes it part of the network.
  node: async ({ node: label, bootstrap, older = false, full = false, host = '127.0.0.1', options = {} }) => {
    const DHT = hyperdht(older)
    const more = full ? { ephemeral: false, firewalled: false } : {}
    const node = new DHT({ bootstrap, host, ...more, ...options })
    nodes.set(label, { DHT, node })
    await node.fullyBootstrapped()
    return { port: node.address().port, publicKey: hex(node.defaultKeyPair.publicKey), firewalled: node.firewalled }
  },
  listen: async ({ node: label, server: name, seed = null, echo = true, deny = [], relayThrough = null, options = {} }) => {
    const { DHT, node } = nodes.get(label)
    const server = node.createServer({
      ...options,
      relayThrough: unhex(relayThrough),
      firewall: (publicKey) => deny.includes(hex(publicKey))
    })
    server.on('connection', (socket) => {
      const id = 'accepted-' + accepted++
      attach(id, socket, echo)
      event('connection', { server: name, socket: id, remotePublicKey: hex(socket.remotePublicKey) })
    })
    servers.set(name, server)
    await server.listen(keyPair(DHT, seed))
    return hex(server.publicKey)
  },
  // A blind relay.
  relay: async ({ node: label, server: name, seed = null }) => {
    const { DHT, node } = nodes.get(label)
    const service = new relay.Server({ createStream: (opts) => node.createRawStream({ ...opts, framed: true }) })
    const server = node.createServer({ shareLocalAddress: false }, (socket) => {
      const session = service.accept(socket, { id: socket.remotePublicKey })
      session.on('error', () => {}).on('pair', () => event('pair', { server: name }))
    })
    servers.set(name, server)
    await server.listen(keyPair(DHT, seed))
    return hex(server.publicKey)
  },
  connect: async ({ node: label, socket: name, publicKey, seed = null, echo = false, relayThrough = null, options = {} }) => {
    const { DHT, node } = nodes.get(label)
    const socket = node.connect(unhex(publicKey), {
      ...options,
      relayThrough: unhex(relayThrough),
      keyPair: seed ? keyPair(DHT, seed) : node.defaultKeyPair
    })
    attach(name, socket, echo)
  },
  send: ({ socket, data }) => { sockets.get(socket).write(unhex(data)) },
  end: ({ socket }) => { sockets.get(socket).end() },
  destroy: ({ socket }) => { sockets.get(socket).destroy() },
  where: ({ socket }) => {
    const raw = sockets.get(socket).rawStream
    return { host: raw.remoteHost, port: raw.remotePort }
  },
  stats: ({ node: label }) => nodes.get(label).node.stats,
  unlisten: ({ server }) => servers.get(server).close(),
  suspend: ({ node }) => nodes.get(node).node.suspend(),
  resume: ({ node }) => nodes.get(node).node.resume(),
  // Without unannouncing anything.
  drop: async ({ node: label }) => {
    await nodes.get(label).node.destroy({ force: true })
    nodes.delete(label)
  },
  close: async () => {
    for (const { node } of nodes.values()) await node.destroy()
    for (const net of nets) await net.destroy()
  }
})
