'use strict'
// Stands in for `@hyperswarm/dht` where tests of npm packages start a network of their own: one node of our DHT.

const { EventEmitter } = require('events')
const daemon = require('./daemon.js')

class Bootstrapper extends EventEmitter {
  listen () {
    this._starting = daemon(['--dht', '-a', '127.0.0.1:0'], 1)
    this._starting.then(({ addresses }) => {
      this._port = Number(addresses[0].split(':').pop())
      this.emit('listening')
    }, (err) => this.emit('error', err))
  }

  address () {
    return { port: this._port }
  }

  async destroy () {
    await (await this._starting).end()
  }
}

module.exports = () => new Bootstrapper()
