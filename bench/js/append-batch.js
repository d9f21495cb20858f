'use strict'
// Appends of 1,000 small blocks at once.
const { measure, filled, fill, now, SMALL } = require('./harness.js')

measure(async (folder) => {
  const { core } = await filled(folder, 20000, SMALL)
  const count = 100000
  const start = now()
  await fill(core, count, SMALL)
  return count / (now() - start)
})
