'use strict'
// What a swarm costs, in a DHT on 127.0.0.1 whose nodes are a process of their own.
//
//   node swarm.js first-block                           ms from joining a topic to a block of who was announced there
//   node swarm.js announce COUNT                        seconds until so many topics are announced
//   node swarm.js memory COUNT                          MiB resident after that
//   node swarm.js replicate COUNT SIZE blocks|megabytes a log over a connection of the swarm
//   node swarm.js writer PORT FOLDER COUNT SIZE         serves such a log to the DHT's node at that port
//
// SWARM_WRITER=rust makes our program (BENCH_PROGRAM names it) the writer.
const path = require('path')
const { npm, Corestore, measure, filled, start, second, now } = require('./harness.js')
const Hyperswarm = npm('hyperswarm')
const DHT = npm('hyperdht')
const createTestnet = npm('hyperdht/testnet')

const NODES = 10
const host = '127.0.0.1'
const [mode, ...args] = process.argv.slice(2)

async function nodes () {
  const { bootstrap } = await createTestnet(NODES, { host })
  console.log(JSON.stringify({ port: bootstrap[0].port }))
}

async function enter (port) {
  const swarm = new Hyperswarm({ dht: new DHT({ bootstrap: [{ host, port: Number(port) }], host }) })
  await swarm.dht.fullyBootstrapped()
  return swarm
}

async function writer (port, folder, count, size) {
  const { store, core } = await filled(folder, Number(count), Number(size), size > 1000 ? 16 : 1000)
  const swarm = await enter(port)
  swarm.on('connection', (connection) => {
    connection.on('error', () => {})
    store.replicate(connection)
  })
  await swarm.join(core.discoveryKey, { server: true, client: false }).flushed()
  console.log(JSON.stringify({ key: core.key.toString('hex') }))
}

// Seconds from joining until `wanted` of the writer's core is done.
async function read (scratch, count, size, wanted) {
  const { hello: { port } } = await second(__filename, ['nodes'])
  const { hello } = process.env.SWARM_WRITER === 'rust'
    ? await start(process.env.BENCH_PROGRAM, ['side', 'swarm-writer', port, count, size])
    : await second(__filename, ['writer', port, path.join(scratch, 'writer'), count, size])
  const store = new Corestore(path.join(scratch, 'reader'))
  const core = store.get({ key: Buffer.from(hello.key, 'hex') })
  await core.ready()
  const swarm = await enter(port)
  swarm.on('connection', (connection) => {
    connection.on('error', () => {})
    store.replicate(connection)
  })
  const begin = now()
  swarm.join(core.discoveryKey, { server: false, client: true })
  await wanted(core)
  return now() - begin
}

async function announce (count) {
  const { hello: { port } } = await second(__filename, ['nodes'])
  const swarm = await enter(port)
  const start = now()
  const flushed = []
  for (let at = 0; at < count; at++) {
    const topic = Buffer.alloc(32, 't')
    topic.writeUInt32LE(at)
    flushed.push(swarm.join(topic, { server: true, client: false }).flushed())
  }
  await Promise.all(flushed)
  return now() - start
}

const modes = {
  'first-block': async (scratch) => 1000 * await read(scratch, 10, 100, (core) => core.get(0)),
  announce: () => announce(Number(args[0])),
  memory: async () => {
    await announce(Number(args[0]))
    const status = require('fs').readFileSync('/proc/self/status', 'utf8')
    return Number(/VmRSS:\s+(\d+)/.exec(status)[1]) / 1024
  },
  replicate: async (scratch) => {
    const [count, size, unit] = args
    const seconds = await read(scratch, count, size, (core) => core.download({ start: 0, end: Number(count) }).done())
    return unit === 'blocks' ? count / seconds : count * size / 1e6 / seconds
  }
}

if (mode === 'nodes') nodes()
else if (mode === 'writer') writer(...args)
else measure(modes[mode])
