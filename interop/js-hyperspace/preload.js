'use strict'
// Lets tests of npm packages run, as they were published, on our daemon.
//
// What is replaced is what they load: the Node server becomes our daemon, a node of the old DHT becomes one of ours. The
// client and everything above it are the npm packages.

const { realpathSync } = require('fs')
const Module = require('module')
const path = require('path')

// As they are resolved: the folder may be a link, and nothing would be replaced then.
const packages = realpathSync(path.join(__dirname, 'node_modules')) + path.sep
const replaced = new Map([
  ['hyperspace/server.js', 'standin-server.js'],
  ['hyperspace/client.js', 'standin-client.js'],
  ['@hyperswarm/dht/index.js', 'standin-dht.js'],
  ['hyperdrive/test/helpers/create.js', 'standin-drive.js'],
  ['hyperdrive/test/helpers/replicator.js', 'standin-replicator.js']
].map(([from, to]) => [path.join(packages, from), path.join(__dirname, to)]))

const resolve = Module._resolveFilename
Module._resolveFilename = function (...args) {
  const found = resolve.apply(this, args)
  return replaced.get(found) || found
}

const load = Module._load
Module._load = function (request, parent, ...rest) {
  const suite = parent && parent.filename ? parent.filename.slice(packages.length).split(path.sep, 2).join('/') : ''
  if (request === 'corestore' && suite === 'hyperdrive/test') return require('./standin-drive.js').Corestore
  if (request === 'tape') {
    if (suite === 'hyperspace/test') return require('./standin-tape.js').hyperspace
    if (suite === 'hyperdrive/test') return require('./standin-tape.js').hyperdrive
  }
  return load.call(this, request, parent, ...rest)
}
