'use strict'
// A store of many cores of one block each, for both halves of `memory-*`. Prints the keys, a line each.
//
//   node make-cores.js FOLDER COUNT
const { Corestore } = require('./harness.js')

async function main () {
  const store = new Corestore(process.argv[2])
  for (let i = 0; i < Number(process.argv[3]); i++) {
    const core = store.get({ name: 'core-' + i })
    await core.append(Buffer.from('block of ' + i))
    console.log(core.key.toString('hex'))
    await core.close()
  }
  await store.close()
}

main()
