'use strict'
// Appends of 64 KiB blocks, 16 at once.
const { measure, filled, fill, now, LARGE } = require('./harness.js')

measure(async (folder) => {
  const { core } = await filled(folder, 160, LARGE, 16)
  const count = 3200
  const start = now()
  await fill(core, count, LARGE, 16)
  return count * LARGE / 1e6 / (now() - start)
})
