'use strict'
// The Node client (npm @hyperspace/client) with a daemon of its own: the Node one (npm hyperspace), ours, or one that does
// nothing but answer (bench/src/sides/nothing.rs).
//
//   node rpc.js WHAT [npm|ours|nothing]
//
// Besides the value it answers `memory`, the daemon's resident memory afterwards in MiB, and `busy`, the share of a core
// that this client took: near 1 it is the client that limits the figure.
const { spawn } = require('child_process')
const { createRequire } = require('module')
const fs = require('fs')
const os = require('os')
const path = require('path')
const readline = require('readline')
const { measure, now, SMALL, LARGE } = require('./harness.js')

const [what, which = 'npm'] = process.argv.slice(2)
const old = path.join(__dirname, '../../interop/js-old')
const WINDOW = 1000
const LARGE_WINDOW = 16

function daemon (folder) {
  const store = path.join(folder, 'store')
  const program = path.join(path.dirname(process.env.BENCH_PROGRAM || ''), 'hyperspace-server')
  const [command, args] = {
    npm: [process.execPath, [path.join(old, 'server.js'), store, 'bench']],
    ours: [program, ['--offline', '-h', 'bench', '-s', store]],
    nothing: [process.env.BENCH_PROGRAM, ['side', 'nothing', path.join(folder, 'bench.sock')]]
  }[which]
  const env = { ...process.env, TMPDIR: folder }
  const child = spawn(command, args, { env, stdio: ['pipe', 'pipe', 'inherit'] })
  const kill = () => child.kill('SIGKILL')
  process.on('exit', kill)
  const ended = new Promise((resolve) => child.once('exit', resolve))
  const first = require('events').once(readline.createInterface({ input: child.stdout }), 'line')
  const memory = (which = 'VmRSS') => {
    const status = fs.readFileSync(`/proc/${child.pid}/status`, 'utf8')
    return Number(new RegExp(`${which}:\\s+(\\d+)`).exec(status)[1]) / 1024
  }
  // Gone before its folder is: what it still writes would be in the way of that.
  const end = () => kill() && ended
  return first.then(() => ({ memory, end }))
}

// `count` calls of `call(i)`, so many under way at a time.
async function pipelined (count, window, call) {
  for (let at = 0; at < count; at += window) {
    await Promise.all(Array.from({ length: Math.min(window, count - at) }, (_, i) => call(at + i)))
  }
}

// What is done before the clock runs, what is done then, and what the value is.
const small = Buffer.alloc(SMALL, 'b')
const large = Buffer.alloc(LARGE, 'b')
const fill = (count) => ({ core }) => pipelined(count, WINDOW, () => core.append(small))
const fillLarge = (count) => ({ core }) => pipelined(count, LARGE_WINDOW, () => core.append(large))
const each = async (count, call) => { for (let i = 0; i < count; i++) await call(i) }
const random = (i) => (i * 48271) % 10000
const perSecond = (count) => (seconds) => count / seconds
const megabytes = (count) => (seconds) => count * LARGE / 1e6 / seconds

// Programs that take all they get, more than there are cores. They end by themselves if this does not end them.
function busy () {
  const children = Array.from({ length: os.availableParallelism() + 1 }, () => {
    return spawn('sh', ['-c', 'ulimit -t 300; while :; do :; done'])
  })
  process.on('exit', () => children.forEach((child) => child.kill('SIGKILL')))
}

// As many calls as the Rust client makes (bench/src/sides/rpc.rs).
const benchmarks = {
  'append-awaited': [fill(1000), ({ core }) => each(50000, () => core.append(small)), perSecond(50000)],
  'append-pipelined': [
    fill(10000), ({ core }) => pipelined(500000, WINDOW, () => core.append(small)), perSecond(500000)
  ],
  'get-awaited': [fill(10000), ({ core }) => each(50000, (i) => core.get(random(i))), perSecond(50000)],
  'get-crowded': [
    async (at) => { await fill(10000)(at); busy() },
    ({ core }) => each(20000, (i) => core.get(random(i))), perSecond(20000)
  ],
  'get-pipelined': [
    fill(10000), ({ core }) => pipelined(500000, WINDOW, (i) => core.get(random(i))), perSecond(500000)
  ],
  'append-large': [
    fillLarge(160), ({ core }) => pipelined(4000, LARGE_WINDOW, () => core.append(large)), megabytes(4000)
  ],
  // Over the blocks that are there, again and again.
  'get-large': [
    fillLarge(1600), ({ core }) => pipelined(8000, LARGE_WINDOW, (i) => core.get(i % 1600)), megabytes(8000)
  ],
  'create-cores': [
    fill(10), ({ store }) => each(500, () => store.get().ready()), perSecond(500)
  ],
  'memory-idle': [() => {}, () => {}, () => null],
  'memory-own': [() => {}, () => {}, (seconds, memory) => memory('RssAnon')],
  'memory-cores': [() => {}, ({ store }) => each(500, () => store.get().ready()), () => null]
}

measure(async (folder) => {
  const { memory, end } = await daemon(folder)
  process.env.TMPDIR = folder
  const HyperspaceClient = createRequire(path.join(old, 'package.json'))('@hyperspace/client')
  const client = new HyperspaceClient({ host: 'bench' })
  await client.ready()
  const store = client.corestore()
  const at = { store }
  if (!what.startsWith('memory')) {
    at.core = store.get(undefined, { name: 'bench' })
    await at.core.ready()
  }
  const [before, run, value] = benchmarks[what]
  await before(at)
  const cpu = process.cpuUsage()
  const start = now()
  await run(at)
  const seconds = now() - start
  const { user, system } = process.cpuUsage(cpu)
  const resident = memory()
  const result = value(seconds, memory) ?? resident
  await client.close()
  await end()
  return { value: result, memory: resident, busy: (user + system) / 1e6 / seconds }
})
