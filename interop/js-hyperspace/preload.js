'use strict'
// Runs tests of npm packages, as they were published, on our daemon:
//
//   HYPERSPACE_SERVER=target/release/hyperspace-server node --require ./preload.js node_modules/hyperspace/test/local.js
//
// What is replaced is what they load: the Node server becomes our daemon, a node of the old DHT becomes one of ours.
// The client and everything above it are the npm packages.

const Module = require('module')
const path = require('path')

const packages = path.join(__dirname, 'node_modules') + path.sep
const drives = path.join(packages, 'hyperdrive/test') + path.sep
const replaced = new Map([
  ['hyperspace/server.js', 'standin-server.js'],
  ['@hyperswarm/dht/index.js', 'standin-dht.js'],
  ['hyperdrive/test/helpers/create.js', 'standin-create.js'],
  ['hyperdrive/test/helpers/replicator.js', 'standin-replicator.js']
].map(([from, to]) => [path.join(packages, from), path.join(__dirname, to)]))

const resolve = Module._resolveFilename
Module._resolveFilename = function (...args) {
  const [request, from] = args
  if (request === 'tape' && from.filename.startsWith(drives)) return path.join(__dirname, 'standin-tape.js')
  const found = resolve.apply(this, args)
  return replaced.get(found) || found
}
