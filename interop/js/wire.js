'use strict'
// TCP on 127.0.0.1 under a Noise XX secret stream: the side that dials is the initiator.

const net = require('net')
const SecretStream = require('@hyperswarm/secret-stream')
const { event, hex } = require('./lines.js')

module.exports = class Wire {
  // `replicate(stream)` is called with every secret stream that comes up.
  constructor (replicate) {
    this.replicate = replicate
    this.sockets = new Set()
    this.servers = new Set()
  }

  _run (isInitiator, socket) {
    socket.setNoDelay(true)
    this.sockets.add(socket)
    const stream = new SecretStream(isInitiator, socket)
    stream.on('error', () => {}) // a cut connection is part of the test; 'disconnect' tells
    stream.once('open', () => event('connection', { initiator: isInitiator, remotePublicKey: hex(stream.remotePublicKey) }))
    stream.once('close', () => {
      this.sockets.delete(socket)
      event('disconnect', { initiator: isInitiator, error: stream.lastError ? stream.lastError.message : null })
    })
    this.replicate(stream)
    return stream
  }

  listen () {
    return new Promise((resolve, reject) => {
      const server = net.createServer({ noDelay: true }, (socket) => this._run(false, socket))
      server.once('error', reject)
      server.listen(0, '127.0.0.1', () => {
        this.servers.add(server)
        resolve({ port: server.address().port })
      })
    })
  }

  connect ({ port, host = '127.0.0.1' }) {
    return new Promise((resolve, reject) => {
      const socket = net.connect(port, host)
      socket.once('error', reject)
      socket.once('connect', () => resolve(this._run(true, socket).opened.then(() => null)))
    })
  }

  // Every connection ends at once, without a goodbye.
  cut () {
    const count = this.sockets.size
    for (const socket of this.sockets) socket.destroy()
    return { count }
  }

  close () {
    for (const server of this.servers) server.close()
    this.cut()
  }
}
