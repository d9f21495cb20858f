'use strict'
// Raw UDX from one process to another.
//
//   node udx.js megabytes|packets BYTES DELAY_MS LOSS_PPM   the sender; prints the value
//   node udx.js sink                                        the receiver
//
// The sink says its port, learns from a line on stdin where the sender is, says that it is connected (what comes earlier
// it does not take), reads to the end, and says what it took.
// With a delay or loss, packets pass `bench side udx-relay` (BENCH_PROGRAM names the program). UDX_SINK=rust makes our
// program the sink.

const { spawn } = require('child_process')
const { once } = require('events')
const readline = require('readline')
const { npm, measure, now } = require('./harness.js')
const UDX = npm('udx-native')

const CHUNK = 64 * 1024
const [mode, bytes, delay, loss] = process.argv.slice(2)

function cpu () {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

async function start (program, args) {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  process.on('exit', () => child.kill('SIGKILL'))
  const lines = readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const next = async () => JSON.parse((await lines.next()).value)
  return { next, tell: (message) => child.stdin.write(JSON.stringify(message) + '\n') }
}

function socketOf (udx) {
  const socket = udx.createSocket()
  socket.bind(0, '127.0.0.1')
  return socket
}

async function sink () {
  const udx = new UDX()
  const socket = socketOf(udx)
  const stream = udx.createStream(2)
  const lines = readline.createInterface({ input: process.stdin })
  console.log(JSON.stringify({ port: socket.address().port }))
  const [line] = await once(lines, 'line')
  stream.connect(socket, 1, JSON.parse(line).port, '127.0.0.1')
  console.log(JSON.stringify({ connected: true }))
  let received = 0
  const before = cpu()
  stream.on('data', (data) => { received += data.byteLength })
  stream.on('end', () => {
    console.log(JSON.stringify({ bytes: received, cpu: cpu() - before, packets: udx.packetsReceived }))
    stream.end()
  })
}

async function sender () {
  const udx = new UDX()
  const socket = socketOf(udx)
  const stream = udx.createStream(1)
  const ours = process.env.BENCH_PROGRAM
  const other = process.env.UDX_SINK === 'rust'
    ? await start(ours, ['side', 'udx-sink'])
    : await start(process.execPath, [__filename, 'sink'])
  let { port } = await other.next()
  let back = socket.address().port
  if (Number(delay) || Number(loss)) {
    const relay = await start(ours, ['side', 'udx-relay', back, port, delay, loss].map(String))
    ;({ near: port, far: back } = await relay.next())
  }
  other.tell({ port: back })
  stream.connect(socket, 2, port, '127.0.0.1')
  stream.on('error', (err) => { throw err })
  await other.next()
  const chunk = Buffer.alloc(CHUNK, 'u')
  const begin = now()
  const before = cpu()
  for (let left = Number(bytes); left > 0; left -= CHUNK) {
    if (stream.write(chunk) === false) await once(stream, 'drain')
  }
  stream.end()
  const took = await other.next()
  if (took.bytes !== Number(bytes)) throw new Error('bytes are missing')
  const seconds = now() - begin
  return mode === 'packets' ? udx.packetsTransmitted / (cpu() - before + took.cpu) : bytes / 1e6 / seconds
}

mode === 'sink' ? sink() : measure(sender)
