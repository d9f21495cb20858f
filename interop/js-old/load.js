'use strict'
// A program that uses the daemon at random until it is killed, or until its stdin ends: appends, reads, waits, locks.
//
//   node load.js NAME SEED
//
// Prints `{ ready }`, then every append that was acknowledged as `{ core, seq, text, count }`, whose blocks are
// `text 0`, `text 1`, ..., and `{ failed }` before it ends when something was not as it should be.

const HyperspaceClient = require('@hyperspace/client')

const [host, seedText] = process.argv.slice(2)
const CORES = 6
const LARGE = 64 * 1024
let state = BigInt(seedText)

// SplitMix64.
function below (n) {
  state = BigInt.asUintN(64, state + 0x9e3779b97f4a7c15n)
  let z = state
  z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n)
  z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn)
  return Number((z ^ (z >> 31n)) % BigInt(n))
}

const say = (message) => process.stdout.write(JSON.stringify(message) + '\n')
const soon = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const expect = (is, what) => { if (!is) throw new Error(what) }

const client = new HyperspaceClient({ host })
const store = client.corestore()
const cores = new Map()
// What this program knows to be there.
const known = []
let texts = 0
let ending = false

async function open (name) {
  if (!cores.has(name)) {
    const core = store.get(undefined, { name })
    await core.ready()
    cores.set(name, core)
  }
  return cores.get(name)
}

async function append (core, name, count, large) {
  const text = 'node ' + seedText + ' ' + texts++
  const pad = large ? 'x'.repeat(LARGE) : ''
  const blocks = Array.from({ length: count }, (_, i) => Buffer.from(text + ' ' + i + pad))
  const seq = await core.append(blocks)
  expect(core.length >= seq + count, 'the length is told before the append is answered')
  known.push({ name, seq, text: text + ' 0' + pad })
  if (known.length > 1000) known.shift()
  say({ core: name, seq, text, count, pad: pad.length })
  return seq
}

const work = [
  // Appends that are under way together, and several blocks at once.
  async (core, name) => {
    const all = Array.from({ length: 1 + below(10) }, () => append(core, name, 1 + below(3), false))
    await Promise.all(all)
  },
  async (core, name) => { await append(core, name, 1, below(4) === 0) },
  async () => {
    if (known.length === 0) return
    const { name, seq, text } = known[below(known.length)]
    const block = await (await open(name)).get(seq)
    expect(block.toString() === text, 'block ' + seq + ' of ' + name + ' is not what was appended')
  },
  async (core) => {
    const length = Math.min(core.length, 1 + below(50))
    await Promise.all(Array.from({ length }, (_, i) => core.get(core.length - 1 - i)))
  },
  // Whatever was appended under the lock before is known, and nobody appends meanwhile.
  async () => {
    // An append that is told right behind the answer to Open is forgotten by this client: it takes the length of the
    // answer last (npm @hyperspace/client 1.18.0, _open). The next append puts that right.
    const fresh = !cores.has('locked')
    const core = await open('locked')
    const release = await core.lock()
    const length = core.length
    const seq = await append(core, 'locked', 1, false)
    if (!fresh && seq !== length) throw new Error(`under the lock, ${length} became ${seq}: ${await core.get(length)}`)
    // Sometimes it is killed with it.
    if (below(3) === 0) await soon(below(100))
    release()
  },
  // Left behind.
  async (core) => { core.get(1e9, { ifAvailable: false }).catch(() => {}) },
  async (core) => { core.download({ start: 0, end: -1 }).catch(() => {}) },
  async (core, name) => {
    if (name === 'locked') return
    await core.close()
    cores.delete(name)
  }
]

async function main () {
  await client.ready()
  say({ ready: true })
  while (!ending) {
    const name = 'core ' + below(CORES)
    const core = await open(name)
    await work[below(work.length)](core, name)
    await soon(below(10))
  }
  await client.close()
}

process.stdin.on('end', () => { ending = true }).resume()
main().then(() => process.exit(0), (err) => {
  say({ failed: err.stack })
  process.exit(1)
})
