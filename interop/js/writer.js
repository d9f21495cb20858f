'use strict'
// A writer to be killed: appends pattern blocks to the named core for ever, `batch` in one append, and prints the
// length after each acknowledged append, a line each.
//
//   node writer.js FOLDER NAME BLOCK_SIZE BATCH

const Corestore = require('corestore')
const { block } = require('./pattern.js')

const [folder, name, size, batch] = process.argv.slice(2)

async function main () {
  const core = new Corestore(folder).get({ name })
  await core.ready()
  while (true) {
    const blocks = []
    for (let i = 0; i < Number(batch); i++) blocks.push(block(core.length + i, Number(size)))
    const { length } = await core.append(blocks)
    if (!process.stdout.write(length + '\n')) await new Promise((resolve) => process.stdout.once('drain', resolve))
  }
}

main().catch((err) => {
  console.error(err)
  process.exit(1)
})
