'use strict'
// Stands in for `hyperspace/server` in tests of npm packages: the same constructor, but the server is our daemon. It
// talks to nobody but 127.0.0.1; without a `network.bootstrap` it stays out of the swarm.

const { EventEmitter } = require('events')
const HRPC = require('@hyperspace/rpc')
const socket = require('@hyperspace/rpc/socket')
const daemon = require('./daemon.js')
const ports = require('./ports.js')
const races = require('./races.js')

let unnamed = 0

module.exports = class Server extends EventEmitter {
  constructor ({ storage, host, port, network = {} } = {}) {
    super()
    this._port = port
    // A daemon always has a socket; one that is asked for TCP must not take the socket of another.
    this._host = port ? 'tcp-' + process.pid + '-' + unnamed++ : host
    this._args = this._host ? ['-h', this._host] : []
    this._args.push(...(typeof storage === 'string' ? ['-s', storage] : ['--memory-only']))
    this._lines = 1
    if (port) {
      this._args.push('--rpc-listen', '127.0.0.1:0')
      this._lines++
    }
    if (network.bootstrap) {
      this._args.push('-a', '127.0.0.1:0')
      for (const node of network.bootstrap) this._args.push('-b', node.replace('localhost', '127.0.0.1'))
      this._lines++
    } else {
      this._args.push('--offline')
    }
    this.networker = null
    this._opening = null
    this._closing = null
  }

  ready () {
    if (!this._opening) this._opening = this._open()
    return this._opening
  }

  open () {
    return this.ready()
  }

  close () {
    if (!this._closing) this._closing = this._close()
    return this._closing
  }

  async _open () {
    this._daemon = await daemon(this._args, this._lines)
    if (this._port) ports.set(this._port, Number(this._daemon.addresses[1].split(':').pop()))
    const client = HRPC.connect(socket({ host: this._host }))
    const { publicKey } = await client.network.open()
    this.networker = { keyPair: { publicKey } }
    // What a daemon remembers, it announces again once it runs; the tests do not wait for that.
    if (races.slowing) {
      const { statuses } = await client.network.allStatuses()
      await Promise.all(statuses.map((configuration) => client.network.configure({ configuration, flush: true })))
    }
    await client.destroy()
  }

  async _close () {
    await this._opening
    await this._daemon.end()
  }
}
