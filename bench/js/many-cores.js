'use strict'
// Many cores over one connection: seconds until all of their blocks have arrived.
//
//   node many-cores.js CORES BLOCKS
const path = require('path')
const { Corestore, measure, fill, serve, dial, second, now, SMALL } = require('./harness.js')

const [cores, blocks, folder] = process.argv.slice(2)

async function writer () {
  const store = new Corestore(folder)
  const keys = []
  for (let i = 0; i < Number(cores); i++) {
    const core = store.get({ name: 'core-' + i })
    await core.ready()
    await fill(core, Number(blocks), SMALL)
    keys.push(core.key.toString('hex'))
  }
  serve(store, { keys })
}

async function reader (scratch) {
  const { hello } = await second(__filename, [cores, blocks, path.join(scratch, 'writer')])
  const store = new Corestore(path.join(scratch, 'reader'))
  const open = hello.keys.map((key) => store.get({ key: Buffer.from(key, 'hex') }))
  await Promise.all(open.map((core) => core.ready()))
  const start = now()
  dial(store, hello.port)
  await Promise.all(open.map((core) => core.download({ start: 0, end: Number(blocks) }).done()))
  return now() - start
}

folder ? writer() : measure(reader)
