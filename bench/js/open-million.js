'use strict'
// Milliseconds from nothing to a core of a million blocks that is ready to read: in a folder as its writer left it after
// a clean close, or with `settled` in one that was opened once since.
//
//   node open-million.js fresh|settled
const path = require('path')
const { Corestore, measure, filled, second, now } = require('./harness.js')

const [mode, folder] = process.argv.slice(2)

async function open (folder) {
  const store = new Corestore(folder)
  const core = store.get({ name: 'bench' })
  await core.ready()
  if (core.length !== 1e6) throw new Error('the folder does not hold the core')
  return store
}

async function writer () {
  const { store } = await filled(folder, 1e6, 32, 10000)
  await store.close()
  if (mode === 'settled') await (await open(folder)).close()
  console.log('{}')
}

folder
  ? writer()
  : measure(async (scratch) => {
    await second(__filename, [mode, path.join(scratch, 'store')])
    const start = now()
    await open(path.join(scratch, 'store'))
    return (now() - start) * 1000
  })
