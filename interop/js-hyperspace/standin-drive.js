'use strict'
// Stands in for what npm hyperdrive's tests make drives with, and connect them with: each drive has a daemon with a
// client, where in the package it has a store in memory. The daemons end with the process: drives that are still used
// when their test ends would not take the end of their daemon well.

const net = require('net')
const { randomBytes } = require('crypto')
const duplexify = require('duplexify')
const HyperspaceClient = require('@hyperspace/client')
const Hyperdrive = require('hyperdrive')
const daemon = require('./daemon.js')

let count = 0
let dht = null
// The store of every drive, and of every corestore.
const stores = new WeakMap()

// A daemon, and a client with a store. Tests use it at once: what they ask before the daemon is there, or while it is
// being connected, waits in the stream.
class Store {
  constructor () {
    const stream = duplexify()
    if (!dht) dht = daemon(['--dht', '-a', '127.0.0.1:0'], 1)
    this._started = dht.then(async ({ addresses: [bootstrap] }) => {
      const args = ['--memory-only', '-h', 'drive-' + count++, '-a', '127.0.0.1:0', '-b', bootstrap]
      const { addresses } = await daemon(args, 2)
      const socket = net.connect(addresses[0])
      stream.setReadable(socket)
      stream.setWritable(socket)
      return addresses[0]
    })
    this._stream = stream
    this._held = 0
    this.corestore = new HyperspaceClient(stream).corestore()
    stores.set(this.corestore, this)
  }

  // What is asked from here on waits until `work` is done.
  hold (work) {
    if (this._held++ === 0) this._stream.cork()
    work.finally(() => { if (--this._held === 0) this._stream.uncork() })
  }

  // A client of its own, which nothing holds up.
  async network () {
    const { network } = new HyperspaceClient(net.connect(await this._started))
    await network.ready()
    return network
  }
}

// Connects two daemons: both are in the swarm for a topic that nobody else has.
async function meet (one, two) {
  const topic = randomBytes(32)
  const [first, second] = await Promise.all([one.network(), two.network()])
  const met = Promise.all([[first, second], [second, first]].map(([network, other]) => new Promise((resolve) => {
    const key = other.keyPair.publicKey
    const look = () => { if (network.peers.some(({ remotePublicKey }) => remotePublicKey.equals(key))) resolve() }
    network.on('peer-add', look)
    look()
  })))
  await first.configure(topic, { announce: true, lookup: false, flush: true })
  await second.configure(topic, { announce: false, lookup: true, flush: true })
  await met
}

module.exports = function create (key, opts) {
  if (key && !Buffer.isBuffer(key)) [key, opts] = [null, key]
  const store = (opts && stores.get(opts.corestore)) || new Store()
  const drive = new Hyperdrive(store.corestore, key, opts)
  stores.set(drive, store)
  return drive
}

// For `new Corestore(ram)`.
module.exports.Corestore = function () {
  return new Store().corestore
}

// For helpers/replicator.js.
module.exports.Replicator = class Replicator {
  constructor (t) {
    this.t = t
  }

  replicate (a, b) {
    const [one, two] = [stores.get(a), stores.get(b)]
    const met = meet(one, two)
    met.catch((err) => this.t.fail(err))
    one.hold(met)
    two.hold(met)
  }

  end () {
    if (this.t) this.t.end()
  }
}
