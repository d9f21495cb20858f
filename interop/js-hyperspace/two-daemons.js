'use strict'
// Two daemons with a client each, that find one another over a DHT of their own: what the clients are told, in which
// order, and what they are answered. One program for both kinds of daemon:
//
//   node two-daemons.js            ours (HYPERSPACE_SERVER names the program)
//   node two-daemons.js --node IP  npm hyperspace, which finds nobody at 127.0.0.1: in a network namespace with another
//                                  address, as it asks the local network for peers as well:
//
//   unshare -n sh -c 'ip link set lo up; ip addr add 10.9.0.1/24 dev lo
//                     node two-daemons.js --node 10.9.0.1'
//
// Prints a line of JSON for every step, in which keys are called by names. What the order of two events is by chance is
// printed in one order; what it must be is checked.

const [how, host] = process.argv.slice(2)
if (how !== '--node') require('./preload.js')

const fs = require('fs')
const os = require('os')
const path = require('path')
const Server = require('hyperspace/server')
const Client = require('@hyperspace/client')
const dht = require('@hyperswarm/dht')

const names = new Map()
const text = (value) => JSON.stringify(value, (_, item) => {
  if (item && item.type === 'Buffer') return Buffer.from(item.data)
  return item
})

// Buffers by their names or as text.
function plain (value) {
  if (Buffer.isBuffer(value)) return names.get(value.toString('hex')) || value.toString()
  if (Array.isArray(value)) return value.map(plain)
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== null).map(([key, item]) => [key, plain(item)]))
  }
  return value
}

function say (step, what) {
  console.log(text({ step, ...plain({ what }) }))
}

// What a client is told, and a promise for when it was told something.
class Told {
  constructor () {
    this.events = []
    this.waiting = []
  }

  push (name, what) {
    this.events.push([name, what])
    for (const look of this.waiting) look()
  }

  // Waits for so many events of this name.
  until (name, count = 1) {
    return new Promise((resolve) => {
      const look = () => { if (this.events.filter(([event]) => event === name).length >= count) resolve() }
      this.waiting.push(look)
      look()
    })
  }

  take () {
    return this.events.splice(0).map(([name, what]) => what === undefined ? name : [name, what])
  }
}

function watch (client, told, greet) {
  const peer = ({ remotePublicKey, remoteAddress }) => ({ remotePublicKey, address: typeof remoteAddress })
  client.network.on('peer-add', (added) => {
    told.push('network peer-add', peer(added))
    greet(added)
  })
  client.network.on('peer-remove', (removed) => told.push('network peer-remove', peer(removed)))
}

function watchCore (core, told) {
  core.on('peer-open', (peer) => told.push('core peer-open', { remotePublicKey: peer.remotePublicKey }))
  core.on('peer-remove', (peer) => told.push('core peer-remove', { remotePublicKey: peer.remotePublicKey }))
  core.on('append', () => told.push('core append', { length: core.length }))
}

// Of two events of one client, the first has to come before the second.
const ORDER = [
  ['network peer-add', 'network extension'],
  ['core peer-open', 'core extension'],
  ['core peer-open', 'core append'],
  ['core peer-remove', 'network peer-remove']
]

function inOrder (events) {
  const at = (name) => events.findIndex((event) => event === name || event[0] === name)
  const wrong = ORDER.filter(([one, two]) => at(one) > at(two) && at(two) !== -1)
  return { told: events.map((event) => text(plain(event))).sort().map((event) => JSON.parse(event)), wrong }
}

async function failure (promise) {
  return promise.then((value) => value == null ? 'done' : value, (err) => err.message)
}

async function main () {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'two-'))
  const bootstrapper = dht({ bootstrap: false })
  bootstrapper.listen()
  await new Promise((resolve) => bootstrapper.once('listening', resolve))
  const bootstrap = [(host || 'localhost') + ':' + bootstrapper.address().port]

  const start = async (name) => {
    const socket = 'two-' + process.pid + '-' + name
    const network = { bootstrap, preferredPort: 0 }
    const server = new Server({ storage: path.join(folder, name), host: socket, network })
    await server.ready()
    const client = new Client({ host: socket })
    await client.ready()
    const told = new Told()
    names.set((await client._client.network.open()).publicKey.toString('hex'), name)
    return { server, client, told }
  }
  const [a, b] = [await start('a'), await start('b')]
  const greeting = {}
  for (const [name, side] of Object.entries({ a, b })) {
    greeting[name] = side.client.network.registerExtension('greeting', {
      encoding: 'utf8',
      onmessage: (message, from) => side.told.push('network extension', { message, from: from.remotePublicKey })
    })
    watch(side.client, side.told, (peer) => greeting[name].send('hello from ' + name, peer))
  }

  const core = a.client.corestore().get()
  await core.ready()
  names.set(core.discoveryKey.toString('hex'), 'topic')
  names.set(core.key.toString('hex'), 'key')
  watchCore(core, a.told)
  await core.append(['one', 'two'])
  const copy = b.client.corestore().get(core.key)
  await copy.ready()
  watchCore(copy, b.told)
  for (const [name, log, side] of [['a', core, a], ['b', copy, b]]) {
    const chat = log.registerExtension('chat', {
      encoding: 'utf8',
      onmessage: (message, from) => side.told.push('core extension', { message, from: from.remotePublicKey })
    })
    log.on('peer-open', (peer) => chat.send('chat from ' + name, peer))
  }
  say('before', [a.told.take(), b.told.take(), copy.length, await failure(copy.get(0)), await failure(copy.update())])

  const topic = core.discoveryKey
  const announce = { announce: true, lookup: false, flush: true }
  say('announce', (await a.client.network.configure(topic, announce)).status)
  // Not flushed: what is asked next waits for it all the same.
  say('lookup', (await b.client.network.configure(topic, { announce: false, lookup: true, flush: false })).status)
  // Our daemon tells of the length unasked, and may have done so by now.
  const known = copy.length === 2
  const update = await failure(copy.update())
  say('update', known ? 'done' : update)
  // The Node daemon is at times too early with its answer.
  while (copy.length < 2) await failure(copy.update())
  say('get', await failure(copy.get(1)))
  say('update again', await failure(copy.update()))
  for (const side of [a, b]) {
    await side.told.until('core peer-open')
    await side.told.until('network peer-add')
    await side.told.until('network extension')
    await side.told.until('core extension')
  }
  say('told a', inOrder(a.told.take()))
  say('told b', inOrder(b.told.take()))
  say('peers', [a.client.network.peers.length, b.client.network.peers.length, core.peers.length, copy.peers.length])
  say('status', [await a.client.network.status(topic), await b.client.network.status(topic)])
  say('allStatuses', [await a.client.network.allStatuses(), await b.client.network.allStatuses()])

  await core.append(['three', 'four'])
  // At the Node daemon, a reader's length changes when it asks; the news may take a moment.
  while (copy.length < 4) await failure(copy.update())
  await b.told.until('core append')
  say('appended', [a.told.take(), b.told.take(), copy.length])
  greeting.a.broadcast('to all')
  await b.told.until('network extension')
  say('broadcast', [a.told.take(), b.told.take()])

  // A client that comes later.
  const late = new Client({ host: 'two-' + process.pid + '-b' })
  await late.ready()
  const log = late.corestore().get(core.key)
  await log.ready()
  say('late', [late.network.peers.map((peer) => peer.remotePublicKey), log.peers.map((peer) => peer.remotePublicKey), log.length])
  say('late status', await late.network.status(topic))
  const overwrite = { announce: true, lookup: true, flush: true }
  say('late configures', (await late.network.configure(topic, overwrite)).status)
  await late.close()
  // Its wishes go with it, as soon as the daemon has noticed.
  while ((await b.client.network.status(topic)).announce);

  say('leave', (await b.client.network.configure(topic, { announce: false, lookup: false, flush: true })).status || null)
  say('left', [(await b.client.network.status(topic)) || null, await b.client.network.allStatuses()])
  b.told.take()
  await a.client.close()
  await a.server.close()
  await b.told.until('network peer-remove')
  await b.told.until('core peer-remove')
  say('gone', inOrder(b.told.take()))
  say('alone', [b.client.network.peers.length, copy.peers.length, await failure(copy.get(0)), await failure(copy.get(2)), await failure(copy.update())])
  await b.client.close()
  await b.server.close()
  fs.rmSync(folder, { recursive: true, force: true })
}

main().then(() => process.exit(), (err) => {
  console.error(err)
  process.exit(1)
})
