'use strict'
// Resident memory (MiB) with a store of many cores: as it stands, or with `open` after opening every one of them.
//
//   node memory.js FOLDER idle|open KEYS_FILE
const fs = require('fs')
const { Corestore, measure } = require('./harness.js')

measure(async () => {
  const [folder, mode, keys] = process.argv.slice(2)
  const store = new Corestore(folder)
  await store.ready()
  const sessions = []
  if (mode === 'open') {
    for (const key of fs.readFileSync(keys, 'utf8').trim().split('\n')) {
      const core = store.get({ key: Buffer.from(key, 'hex') })
      await core.ready()
      if (core.length !== 1) throw new Error('the folder does not hold the core')
      sessions.push(core)
    }
  }
  const status = fs.readFileSync('/proc/self/status', 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)[1]) / 1024
})
