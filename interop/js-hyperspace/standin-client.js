'use strict'
// Stands in for `hyperspace/client` in tests of npm packages: the npm client, which shows tests that count on a network
// faster than themselves one that is (races.js).

const HyperspaceClient = require('@hyperspace/client')
const races = require('./races.js')

module.exports = class Client extends HyperspaceClient {
  constructor (opts) {
    super(opts)
    const configure = this.network.configure.bind(this.network)
    this.network.configure = (discoveryKey, config, cb) => {
      if (!races.isRunning() || config.flush) return configure(discoveryKey, config, cb)
      return races.settled(opts, configure(discoveryKey, config), { discoveryKey, ...config })
    }
  }
}
