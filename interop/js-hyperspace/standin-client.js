'use strict'
// Stands in for `hyperspace/client` in tests of npm packages: it is the npm client, but see races.js.

const HyperspaceClient = require('@hyperspace/client')
const races = require('./races.js')

module.exports = class Client extends HyperspaceClient {
  constructor (opts) {
    super(opts)
    races.slowClient(this, opts)
  }
}
