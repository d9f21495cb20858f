'use strict'
// Gets of small blocks in order, each awaited before the next.
const { measure, filled, now, SMALL } = require('./harness.js')

measure(async (folder) => {
  const { core } = await filled(folder, 50000, SMALL)
  for (let i = 0; i < 5000; i++) await core.get(i)
  const start = now()
  for (let i = 0; i < 50000; i++) await core.get(i)
  return 50000 / (now() - start)
})
