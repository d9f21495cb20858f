'use strict'
// A whole core from one process to another over TCP.
//
//   node replicate.js COUNT SIZE blocks|megabytes
const path = require('path')
const { Corestore, measure, filled, serve, dial, second, now } = require('./harness.js')

const [count, size, unit, folder] = process.argv.slice(2)

async function writer () {
  const { store, core } = await filled(folder, Number(count), Number(size), size > 1000 ? 16 : 1000)
  serve(store, { key: core.key.toString('hex') })
}

async function reader (scratch) {
  const { hello } = await second(__filename, [count, size, unit, path.join(scratch, 'writer')])
  const store = new Corestore(path.join(scratch, 'reader'))
  const core = store.get({ key: Buffer.from(hello.key, 'hex') })
  await core.ready()
  const start = now()
  dial(store, hello.port)
  await core.download({ start: 0, end: Number(count) }).done()
  const seconds = now() - start
  if (core.contiguousLength !== Number(count)) throw new Error('blocks are missing')
  return unit === 'blocks' ? count / seconds : count * size / 1e6 / seconds
}

folder ? writer() : measure(reader)
