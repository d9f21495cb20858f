'use strict'
// A bare udx-native: one instance, sockets and streams by label.

const { createHash } = require('crypto')
const UDX = require('udx-native')
const { block } = require('./pattern.js')
const { serve, event, hex, unhex } = require('./lines.js')

const udx = new UDX()
const sockets = new Map()
const streams = new Map()

function bind ({ socket: label, port = 0, host = '127.0.0.1' }) {
  const socket = udx.createSocket()
  socket.bind(port, host)
  socket.on('message', (data, from) => event('datagram', { socket: label, data: hex(data), port: from.port, host: from.host }))
  sockets.set(label, socket)
  return socket.address().port
}

// What a stream reads is hashed and counted; `hold` leaves it unread until `resume`.
function create ({ stream: id, hold = false, accept = false }) {
  const stream = udx.createStream(id, accept ? { firewall: () => false } : {})
  const state = { stream, hash: createHash('blake2b512'), bytes: 0, ended: false }
  streams.set(id, state)
  let error = null
  stream.on('error', (err) => { error = err.code || err.message })
  stream.on('end', () => {
    state.ended = true
    event('end', { stream: id, bytes: state.bytes, digest: state.hash.copy().digest('hex') })
  })
  stream.on('close', () => event('close', { stream: id, error }))
  stream.on('message', (data) => event('message', { stream: id, data: hex(data) }))
  stream.on('remote-changed', () => event('changed', { stream: id }))
  if (!hold) resume({ stream: id })
}

function resume ({ stream: id }) {
  const state = streams.get(id)
  state.stream.on('data', (data) => {
    state.hash.update(data)
    state.bytes += data.byteLength
  })
}

// Blocks of the pattern one after the other, as fast as the stream takes them.
async function write ({ stream: id, start = 0, end, size, salt = 0 }) {
  const { stream } = streams.get(id)
  for (let index = start; index < end; index++) {
    if (stream.destroyed) throw new Error('destroyed')
    if (stream.write(block(index, size, salt)) === false) {
      await new Promise((resolve) => {
        stream.once('drain', resolve)
        stream.once('close', resolve)
      })
    }
  }
}

serve({
  bind,
  stream: create,
  resume,
  write,
  connect: ({ stream: id, socket, remoteId, port, host = '127.0.0.1' }) => streams.get(id).stream.connect(sockets.get(socket), remoteId, port, host),
  flush: ({ stream: id }) => streams.get(id).stream.flush(),
  end: ({ stream: id }) => { streams.get(id).stream.end() },
  destroy: ({ stream: id }) => { streams.get(id).stream.destroy() },
  received: ({ stream: id }) => ({ bytes: streams.get(id).bytes, digest: streams.get(id).hash.copy().digest('hex') }),
  message: ({ stream: id, data }) => streams.get(id).stream.send(unhex(data)),
  datagram: ({ socket, data, port, host = '127.0.0.1', ttl = 0 }) => sockets.get(socket).send(unhex(data), port, host, ttl),
  keepalive: ({ stream: id, ms }) => streams.get(id).stream.setKeepalive(ms),
  // Resolves when everything sent to the old remote has arrived.
  move: ({ stream: id, socket, remoteId, port, host = '127.0.0.1' }) => streams.get(id).stream.changeRemote(sockets.get(socket), remoteId, port, host),
  relay: ({ a, b }) => {
    streams.get(a).stream.relayTo(streams.get(b).stream)
    streams.get(b).stream.relayTo(streams.get(a).stream)
  },
  stats: ({ stream: id }) => {
    const { stream } = streams.get(id)
    return {
      mtu: stream.mtu,
      rtt: stream.rtt,
      cwnd: stream.cwnd,
      retransmits: stream.retransmits,
      timeouts: stream.rtoCount,
      remotePort: stream.remotePort
    }
  },
  close: async () => {
    for (const { stream } of streams.values()) stream.destroy()
    await Promise.all([...sockets.values()].map((socket) => socket.close()))
  }
})
