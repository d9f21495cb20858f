'use strict'
// Gets of 64 KiB blocks in order.
const { measure, filled, now, LARGE } = require('./harness.js')

measure(async (folder) => {
  const { core } = await filled(folder, 3200, LARGE, 16)
  for (let i = 0; i < 200; i++) await core.get(i)
  const start = now()
  for (let i = 0; i < 3200; i++) await core.get(i)
  return 3200 * LARGE / 1e6 / (now() - start)
})
