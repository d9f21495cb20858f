'use strict'
// A bare @hyperswarm/secret-stream with, on top of it, either plain messages or protomux.

const net = require('net')
const SecretStream = require('@hyperswarm/secret-stream')
const Protomux = require('protomux')
const c = require('compact-encoding')
const { serve, event, hex, unhex } = require('./lines.js')

const servers = new Set()
const channels = new Map()
let socket = null
let stream = null
let mux = null

// One connection per process: `plain` streams tell their messages, others carry protomux.
function run (isInitiator, raw, { pattern, seed, remotePublicKey, keepAlive, plain = false }) {
  raw.setNoDelay(true)
  socket = raw
  stream = new SecretStream(isInitiator, raw, {
    pattern,
    keepAlive,
    keyPair: SecretStream.keyPair(seed ? unhex(seed) : undefined),
    remotePublicKey: unhex(remotePublicKey) || undefined
  })
  let error = null
  stream.on('error', (err) => { error = err.message })
  stream.once('connect', () => event('connected', {
    publicKey: hex(stream.publicKey),
    remotePublicKey: hex(stream.remotePublicKey),
    handshakeHash: hex(stream.handshakeHash),
    id: hex(SecretStream.id(stream.handshakeHash, isInitiator))
  }))
  stream.once('close', () => event('disconnect', { error }))
  if (plain) stream.on('data', (data) => event('data', { data: hex(data) }))
  else mux = Protomux.from(stream)
}

function channelOf ({ channel: label, protocol, topic = null, aliases = [], unique = true, messages = 3, handshake = null }) {
  const channel = mux.createChannel({
    protocol,
    id: unhex(topic),
    aliases,
    unique,
    handshake: c.buffer,
    messages: Array.from({ length: messages }, (_, kind) => ({
      encoding: c.raw,
      onmessage: (data) => event('message', { channel: label, kind, data: hex(data) })
    })),
    onopen: (remote) => event('opened', { channel: label, handshake: hex(remote) }),
    onclose: (isRemote) => event('closed', { channel: label, isRemote })
  })
  if (channel === null) return false
  channels.set(label, channel)
  channel.open(unhex(handshake) || Buffer.alloc(0))
  return true
}

serve({
  listen: (options) => new Promise((resolve, reject) => {
    const server = net.createServer((raw) => run(false, raw, options))
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      servers.add(server)
      resolve({ port: server.address().port })
    })
  }),
  connect: ({ port, ...options }) => new Promise((resolve, reject) => {
    const raw = net.connect(port, '127.0.0.1')
    raw.once('error', reject)
    raw.once('connect', () => {
      run(true, raw, options)
      resolve()
    })
  }),

  write: ({ data }) => { stream.write(unhex(data)) },
  // `count` messages of `size` bytes, each filled with its number.
  fill: ({ count, size }) => { for (let n = 0; n < count; n++) stream.write(Buffer.alloc(size, n)) },
  end: () => { stream.end() },
  destroy: () => { socket.destroy() },

  open: (options) => channelOf(options),
  // What to do when the remote opens a protocol: open it as well, or (without `channel`) only tell. `delay` turns of
  // the event loop pass first, as when a core has to be read from storage.
  pair: ({ protocol, topic = null, channel = null, delay = 0, ...options }) => {
    mux.pair({ protocol, id: unhex(topic) }, async (remoteId) => {
      for (let n = 0; n < delay; n++) await new Promise((resolve) => setImmediate(resolve))
      event('paired', { protocol, topic: hex(remoteId) })
      if (channel !== null) channelOf({ ...options, channel, protocol, topic: hex(remoteId) })
    })
  },
  send: ({ channel, kind, data }) => channels.get(channel).messages[kind].send(unhex(data)),
  cork: () => { mux.cork() },
  uncork: () => { mux.uncork() },
  closeChannel: ({ channel }) => { channels.get(channel).close() },
  opened: ({ protocol, topic = null }) => mux.opened({ protocol, id: unhex(topic) }),
  state: () => ({ channels: [...mux].length, idle: mux.isIdle() }),

  close: () => {
    for (const server of servers) server.close()
    if (socket) socket.destroy()
  }
})
