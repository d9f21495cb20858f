'use strict'
// From the call of append in one process to the block in the other's hands: the median in milliseconds. The block
// carries the writer's monotonic clock, which both processes share.
const path = require('path')
const readline = require('readline')
const { Corestore, measure, filled, serve, dial, second } = require('./harness.js')

const folder = process.argv[2]

async function writer () {
  const { store, core } = await filled(folder, 10, 8)
  readline.createInterface({ input: process.stdin }).on('line', () => {
    const block = Buffer.alloc(8)
    block.writeBigUInt64LE(process.hrtime.bigint())
    core.append(block)
  })
  serve(store, { key: core.key.toString('hex') })
}

async function reader (scratch) {
  const { hello, send } = await second(__filename, [path.join(scratch, 'writer')])
  const store = new Corestore(path.join(scratch, 'reader'))
  const core = store.get({ key: Buffer.from(hello.key, 'hex') })
  core.download({ start: 0, end: -1 })
  dial(store, hello.port)
  await core.get(9)
  const seen = []
  for (let i = 10; i < 610; i++) {
    const get = core.get(i)
    send('append')
    const block = await get
    const ms = Number(process.hrtime.bigint() - block.readBigUInt64LE()) / 1e6
    if (i >= 110) seen.push(ms)
  }
  return seen.sort((a, b) => a - b)[seen.length >> 1]
}

folder ? writer() : measure(reader)
