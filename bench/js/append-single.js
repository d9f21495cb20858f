'use strict'
// Appends of one small block, each awaited before the next.
const { measure, filled, now, SMALL } = require('./harness.js')

measure(async (folder) => {
  const { core } = await filled(folder, 1000, SMALL)
  const block = Buffer.alloc(SMALL, 'b')
  for (let i = 0; i < 1000; i++) await core.append(block)
  const count = 5000
  const start = now()
  for (let i = 0; i < count; i++) await core.append(block)
  return count / (now() - start)
})
