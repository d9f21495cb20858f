'use strict'
// What programs written for the Node daemon rely on, checked with the unmodified Node client (npm @hyperspace/client)
// against whatever daemon listens on the socket.
//
//   node session.js NAME [--node]     the UNIX socket <tmpdir>/NAME.sock; --node says that it is the Node daemon
//   node session.js URL TOKEN         tcp://HOST:PORT or ws://HOST:PORT, with an access token
//
// Ends with 0 and the line `ok N checks` when everything was as it should be.

const assert = require('assert')
const HyperspaceClient = require('@hyperspace/client')

const { stream } = require('./streams.js')

const [host, token] = process.argv.slice(2)
const node = process.argv.includes('--node')
let checks = 0

function same (actual, expected, what) {
  assert.deepStrictEqual(actual, expected, what)
  checks++
}

async function fails (promise, message, code) {
  const err = await promise.then(() => null, (err) => err)
  assert(err, 'expected the error: ' + message)
  same(err.message, message)
  if (code) same(err.code, code)
}

const text = (buffer) => buffer.toString()
// What this client has asked for before has reached the daemon: requests are worked on in their order.
const heard = (client) => client.status()

async function main () {
  const connect = () => new HyperspaceClient(host.includes('://') ? stream(host, token) : { host })
  const client = connect()
  const other = connect()
  await client.ready()
  await other.ready()
  same((await client.status()).apiVersion.replace(/\d+$/, 'x'), '1.15.x')

  const store = client.corestore()
  const feeds = []
  store.on('feed', (feed) => feeds.push(feed.key.toString('hex')))
  const core = store.get()
  const events = []
  core.on('append', () => events.push([core.length, core.byteLength]))
  await core.ready()
  same([core.length, core.byteLength, core.writable, core.key.length, core.discoveryKey.length], [0, 0, true, 32, 32])
  same(feeds, [core.key.toString('hex')], 'the feed event is there when the core is ready')

  // The length changes with the event, which comes before the answer.
  same(await core.append([Buffer.from('hello'), Buffer.from('world!')]), 0)
  same(events, [[2, 11]], 'one append call, one event')
  const lengths = await Promise.all(['a', 'b', 'c', 'd'].map((block) => core.append(Buffer.from(block))))
  same(lengths, [2, 3, 4, 5], 'appends keep their order')
  same([core.length, core.byteLength], [6, 15])

  same(text(await core.get(0)), 'hello')
  same((await Promise.all([0, 1, 2, 3, 4, 5].map((i) => core.get(i)))).map(text).join(' '), 'hello world! a b c d')
  await fails(core.get(100), 'Block not available from peers')
  await fails(core.get(100, { wait: false }), 'Block not downloaded')
  const waited = []
  await fails(core.get(100, { onwait: (seq) => waited.push(seq) }), 'Block not available from peers')
  await core.get(1, { onwait: (seq) => waited.push(seq) })
  same(waited, [100], 'onwait fires for missing blocks, and for no others')

  const never = core.get(77, { ifAvailable: false })
  await heard(client)
  core.cancel(never)
  await fails(never, 'Request cancelled')
  const later = core.get(6, { ifAvailable: false })
  await core.append(Buffer.from('at last'))
  same(text(await later), 'at last')

  same([await core.has(0), await core.has(50)], [true, false])
  same(await core.seek(0), { seq: 0, blockOffset: 0 })
  same(await core.seek(6), { seq: 1, blockOffset: 1 })
  same(await core.seek(core.byteLength), { seq: 7, blockOffset: 0 })
  await fails(core.seek(1e6), 'Seek not available from peers')
  await fails(core.seek(1e6, { wait: false }), 'Out of bounds')
  same([await core.downloaded(), await core.downloaded(1, 3)], [7, 2])

  const download = core.download({ start: 0, end: 100 })
  await heard(client)
  core.undownload(download)
  await fails(download, 'Download was cancelled', 'ECANCELED')
  // The Node daemon does not notice that everything is there already.
  if (!node) await core.download({ start: 0, end: 7 })

  await core.update(3)
  await fails(core.update(), 'No update available from peers')
  const raw = client._client
  await fails(raw.corestore.open({ id: core._id }), 'Session already in use.')
  await fails(raw.hypercore.has({ id: 999, seq: 0 }), 'Invalid hypercore: 999')

  // Others see the core, its appends, and can write to it.
  const twin = other.corestore().get(core.key)
  await twin.ready()
  same([twin.length, twin.writable], [7, true])
  const told = new Promise((resolve) => core.once('append', resolve))
  same(await twin.append(Buffer.from('from the other')), 7)
  await told
  same([core.length, text(await core.get(7))], [8, 'from the other'])

  // A lock is held across clients; what was appended under it is known to whoever gets it next.
  const release = await core.lock()
  const locked = twin.lock()
  let early = true
  locked.then(() => { early = false })
  await core.append(Buffer.from('locked'))
  await fails(raw.hypercore.releaseLock({ id: 999 }), 'Invalid hypercore: 999')
  await fails(other._client.hypercore.releaseLock({ id: twin._id }), 'Core is not locked by you')
  await heard(other)
  same(early, true, 'the lock is held')
  release()
  const releaseTwin = await locked
  same(twin.length, 9)
  releaseTwin()
  await heard(other)
  await fails(other._client.hypercore.releaseLock({ id: twin._id }), 'Core is not locked')
  // Extensions: without peers there is nobody to hear, and no error.
  const extension = core.registerExtension('chat', { onmessage () {} })
  extension.broadcast(Buffer.from('anybody?'))
  await raw.hypercore.sendExtension({ id: core._id, resourceId: extension.resourceId, data: Buffer.from('x') })
  await fails(raw.hypercore.sendExtension({ id: core._id, resourceId: 9999, data: Buffer.from('x') }), 'Invalid resource: 9999')
  await raw.hypercore.unregisterExtension({ id: core._id, resourceId: extension.resourceId })
  await fails(raw.hypercore.unregisterExtension({ id: core._id, resourceId: 9999 }), 'Invalid resource: 9999')

  // The Node daemon cannot append to a core any more once it has refused a block.
  await fails(twin.append([Buffer.from('small'), Buffer.alloc(8388609)]), 'Individual blocks has be less than 8MB')
  if (!node) {
    same(await twin.append(Buffer.alloc(8388608)), 9)
    same((await core.get(9)).length, 8388608)
  }

  // Names lead back to the same core.
  const named = store.get({ name: 'diary ' + process.pid })
  await named.ready()
  await named.append(Buffer.from('dear diary'))
  const again = other.corestore().get({ name: 'diary ' + process.pid })
  await again.ready()
  same([again.key.equals(named.key), again.length], [true, 1])

  const foreign = store.get(Buffer.alloc(32, 5))
  await foreign.ready()
  same(foreign.writable, false)
  await fails(foreign.append(Buffer.from('x')), 'This feed is not writable. Did you create it?')
  await fails(foreign.update(), 'No update available from peers')
  await fails(foreign.get(0), 'Block not available from peers')

  // Streams are built on all this.
  const copy = []
  for await (const block of core.createReadStream({ start: 0, end: 3 })) copy.push(text(block))
  same(copy, ['hello', 'world!', 'a'])
  const sink = named.createWriteStream()
  for (let i = 0; i < 100; i++) sink.write(Buffer.from('line ' + i))
  await new Promise((resolve) => sink.end(resolve))
  while (named.length < 101) await heard(client)
  same([named.length, text(await named.get(100))], [101, 'line 99'])

  const cut = core.download({ start: 0, end: 1e6 })
  await heard(client)
  await core.close()
  await fails(cut, 'Download was cancelled', 'ECANCELED')
  await fails(raw.hypercore.has({ id: core._id, seq: 0 }), 'Invalid hypercore: ' + core._id)
  same(text(await twin.get(0)), 'hello')

  await other.close()
  await client.close()
  console.log('ok', checks, 'checks')
}

main().then(() => process.exit(0), (err) => {
  console.error('after', checks, 'checks:', err)
  process.exit(1)
})
