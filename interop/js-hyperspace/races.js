'use strict'
// Tests of npm hyperspace that configure a topic, do not wait for it to be flushed, sleep for 100 ms, and then count on
// everybody having been found and connected meanwhile, in the order of the calls. With the Node server, too, they
// fail on a loaded machine. In them, a configure is answered once its topic was flushed, and 100 ms are longer.

const HRPC = require('@hyperspace/rpc')
const socket = require('@hyperspace/rpc/socket')

const races = new Set([
  'can send on a network extension',
  'can broadcast on a network extension',
  'can send on a hypercore extension',
  'can read a live stream'
])
const factor = Number(process.env.HYPERSPACE_PATIENCE || 5)

let running = null

exports.started = (name) => { running = name }
exports.isRunning = () => races.has(running)

// Waits with a client of its own, which takes its wishes with it when it goes: they are those of the test's client.
exports.settled = async function (opts, configured, { discoveryKey, announce, lookup }) {
  const answer = await configured
  const client = HRPC.connect(socket(opts))
  await client.network.configure({ configuration: { discoveryKey, announce, lookup }, flush: true })
  await client.destroy()
  return answer
}

const setTimeout = global.setTimeout
global.setTimeout = (work, ms, ...args) => setTimeout(work, ms === 100 && exports.isRunning() ? ms * factor : ms, ...args)
