'use strict'
// Tests of npm hyperspace that count on things having happened that nothing has waited for: within 100 ms, or in the
// same turn of the one process that runs all servers there. How often each fails without this, with the Node server as
// well, is in docs/node-programs.md. They run here as they are, but what they talk to is slower than the network: see
// `started`.

const HRPC = require('@hyperspace/rpc')
const socket = require('@hyperspace/rpc/socket')

const races = new Map([
  // Configured without waiting for the flush, and after 100 ms everybody is to be connected, in the order of the calls.
  ['can send on a network extension', ['configure', 'sleep']],
  ['can broadcast on a network extension', ['configure', 'sleep']],
  ['can send on a hypercore extension', ['configure', 'sleep']],
  ['can read a live stream', ['configure', 'sleep']],
  // The second one looks while the first one, which nobody has waited for, is announcing itself.
  ['can swarm with the replicate function', ['configure']],
  // What one server did is to be known to its client once the client of another server has its answer.
  ['can watch downloads, uploads, and appends', ['answers']]
])
// How many times 100 ms something takes that is made slow; with 0, nothing is.
const factor = Number(process.env.HYPERSPACE_SLOWNESS || 5)
exports.slowing = factor > 0

const setTimeout = global.setTimeout
let slow = []

// From here on: is `configure` answered after the flush, are sleeps of 100 ms longer, are answers late?
exports.started = (name) => {
  slow = (exports.slowing && races.get(name)) || []
  return slow.length > 0
}

const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

global.setTimeout = (work, ms, ...args) => {
  return setTimeout(work, ms === 100 && slow.includes('sleep') ? ms * factor : ms, ...args)
}

// Waits with a client of its own, which takes its wishes with it when it goes: they are those of the test's client.
async function flushed (opts, { discoveryKey, announce, lookup }) {
  const client = HRPC.connect(socket(opts))
  await client.network.configure({ configuration: { discoveryKey, announce, lookup }, flush: true })
  await client.destroy()
}

exports.slowClient = function (client, opts) {
  const { network, corestore } = client
  const configure = network.configure.bind(network)
  network.configure = (discoveryKey, config, cb) => {
    if (!slow.includes('configure') || config.flush) return configure(discoveryKey, config, cb)
    return configure(discoveryKey, config).then(async (answer) => {
      await flushed(opts, { ...config, discoveryKey: discoveryKey.discoveryKey || discoveryKey })
      return answer
    })
  }
  client.corestore = (name) => {
    const store = corestore(name)
    const get = store.get.bind(store)
    store.get = (...args) => {
      const core = get(...args)
      if (slow.includes('answers')) slowCore(core)
      return core
    }
    return store
  }
}

// Two appends and an update: when the update is asked for, the news of the first append has to have arrived, and must not
// have been told yet, for which the daemon gathers what peers append for a tenth of a second
// (crates/hyperspace-server/src/mailbox.rs). Both appends together take half of that.
const lateness = { append: 25, get: 20 * factor, download: 20 * factor }

function slowCore (core) {
  for (const [name, ms] of Object.entries(lateness)) {
    const call = core[name].bind(core)
    core[name] = (...args) => call(...args).then(async (answer) => {
      await later(ms)
      return answer
    })
  }
}
