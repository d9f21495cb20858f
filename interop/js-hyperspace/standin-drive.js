'use strict'
// Stands in for the helper of npm hyperdrive's tests that makes drives: each has a daemon with a client, where in the
// package it has a store in memory. The daemons end with the process: drives that are still used when their test ends
// would not take the end of their daemon well.

const net = require('net')
const duplexify = require('duplexify')
const HyperspaceClient = require('@hyperspace/client')
const Hyperdrive = require('hyperdrive')
const daemon = require('./daemon.js')

let count = 0

// Tests use a drive at once: what they ask before the daemon is there waits in the stream.
function newClient () {
  const stream = duplexify()
  daemon(['--memory-only', '--offline', '-h', 'drive-' + count++], 1).then(({ addresses }) => {
    const socket = net.connect(addresses[0])
    stream.setReadable(socket)
    stream.setWritable(socket)
  })
  return new HyperspaceClient(stream)
}

module.exports = function (key, opts) {
  if (key && !Buffer.isBuffer(key)) [key, opts] = [null, key]
  return new Hyperdrive((opts && opts.corestore) || newClient().corestore(), key, opts)
}
