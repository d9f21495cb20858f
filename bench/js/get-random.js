'use strict'
// Gets of small blocks at random places, each awaited before the next.
const { measure, filled, now, SMALL } = require('./harness.js')

measure(async (folder) => {
  const { core } = await filled(folder, 50000, SMALL)
  let at = 1
  const next = () => (at = (at * 48271) % 2147483647) % 50000
  for (let i = 0; i < 5000; i++) await core.get(next())
  const start = now()
  for (let i = 0; i < 50000; i++) await core.get(next())
  return 50000 / (now() - start)
})
