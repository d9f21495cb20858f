'use strict'
// What the JS halves of the benchmarks share: the npm packages of interop/js, a scratch folder, a second process, and
// the one line `{"value": N}` that the runner reads.

const { createRequire } = require('module')
const { spawn } = require('child_process')
const fs = require('fs')
const net = require('net')
const os = require('os')
const path = require('path')
const readline = require('readline')

const npm = createRequire(path.join(__dirname, '../../interop/js/package.json'))
const Corestore = npm('corestore')
const SecretStream = npm('@hyperswarm/secret-stream')

exports.npm = npm
exports.Corestore = Corestore
exports.SMALL = 100
exports.LARGE = 64 * 1024

// Runs `main(folder)`, prints what it answers (a number is the value), and removes the folder, unless the bench program
// gave the place: it removes that itself, when this process is gone and RocksDB's background threads write nothing more.
exports.measure = async function (main) {
  const folder = fs.mkdtempSync(path.join(process.env.BENCH_DIR || os.tmpdir(), 'js-'))
  let code = 0
  try {
    const answer = await main(folder)
    console.log(JSON.stringify(typeof answer === 'number' ? { value: answer } : answer))
  } catch (err) {
    console.error(err)
    code = 1
  }
  if (!process.env.BENCH_DIR) fs.rmSync(folder, { recursive: true, force: true })
  process.exit(code)
}

exports.now = () => Number(process.hrtime.bigint()) / 1e9

exports.filled = async function (folder, count, size, batch = 1000) {
  const store = new Corestore(folder)
  const core = store.get({ name: 'bench' })
  await core.ready()
  await exports.fill(core, count, size, batch)
  return { store, core }
}

exports.fill = async function (core, count, size, batch = 1000) {
  const block = Buffer.alloc(size, 'b')
  for (let left = count; left > 0; left -= batch) {
    await core.append(new Array(Math.min(batch, left)).fill(block))
  }
}

// The writer's half of a benchmark of two processes: serves `store`, and says `hello` with the port in a first line.
exports.serve = function (store, hello) {
  const server = net.createServer({ noDelay: true }, (socket) => {
    const stream = new SecretStream(false, socket)
    stream.on('error', () => {})
    store.replicate(stream)
  })
  server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ ...hello, port: server.address().port })))
}

exports.dial = function (store, port) {
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
  const stream = new SecretStream(true, socket)
  stream.on('error', () => {})
  store.replicate(stream)
}

// Starts this very script once more with `args`; answers its first line and how to send it lines.
exports.second = (script, args) => exports.start(process.execPath, [script, ...args])

exports.start = async function (program, args) {
  const child = spawn(program, args.map(String), { stdio: ['pipe', 'pipe', 'inherit'] })
  process.on('exit', () => child.kill('SIGKILL'))
  const lines = readline.createInterface({ input: child.stdout })
  const [first] = await require('events').once(lines, 'line')
  return { hello: JSON.parse(first), send: (line) => child.stdin.write(line + '\n') }
}
