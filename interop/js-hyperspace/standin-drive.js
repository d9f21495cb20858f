'use strict'
// Stands in for the helpers of npm hyperdrive's tests that make drives and connect them. In the package a drive has a
// store in memory, and two drives are connected by a stream; here it has a daemon with a client, and two daemons meet
// in a DHT of ours under the drives' discovery keys.

const { EventEmitter } = require('events')
const net = require('net')
const duplexify = require('duplexify')
const HyperspaceClient = require('@hyperspace/client')
const Hyperdrive = require('hyperdrive')
const daemon = require('./daemon.js')

const clients = new Map()
let bootstrap = null
let count = 0

// Before the first test: the node that the daemons meet through. Everything ends with the process: drives that are
// still used when their test ends would not take the end of their daemon well.
exports.start = async () => {
  const node = await daemon(['--dht', '-a', '127.0.0.1:0'], 1)
  bootstrap = node.addresses[0]
}

// Tests use a drive at once: what they ask before the daemon is there waits in the stream.
function newClient () {
  const stream = duplexify()
  const args = ['--memory-only', '-h', 'drive-' + count++, '-a', '127.0.0.1:0', '-b', bootstrap]
  daemon(args, 2).then(({ addresses }) => {
    const socket = net.connect(addresses[0])
    stream.setReadable(socket)
    stream.setWritable(socket)
  })
  return new HyperspaceClient(stream)
}

exports.create = function (key, opts) {
  if (key && !Buffer.isBuffer(key)) [key, opts] = [null, key]
  if (opts && opts.corestore) return new Hyperdrive(opts.corestore, key, opts)
  const client = newClient()
  const drive = new Hyperdrive(client.corestore(), key, opts)
  clients.set(drive, client)
  return drive
}

exports.Replicator = class Replicator {
  constructor (t) {
    this.t = t
  }

  replicate (a, b) {
    meet(a, b).catch((err) => this.t.fail(err))
    return [new EventEmitter(), new EventEmitter()]
  }

  end () {
    if (this.t) this.t.end()
  }
}

async function meet (a, b) {
  await Promise.all([a.promises.ready(), b.promises.ready()])
  for (const client of [clients.get(a), clients.get(b)]) {
    for (const { discoveryKey } of [a, b]) await client.network.configure(discoveryKey, { announce: true, lookup: true })
  }
}
