'use strict'
// A peer of the previous generation: corestore 6 with hypercore 10, whose storage is a folder of files.
//
//   node peer10.js FOLDER

const Corestore = require('corestore6')
const Cores = require('./cores.js')
const Wire = require('./wire.js')
const { serve, unhex } = require('./lines.js')

const store = new Corestore(process.argv[2])
const cores = new Cores(store)
const wire = new Wire((stream) => store.replicate(stream))

serve({
  ...cores.commands(),

  open: async ({ core: label, name, key }) => {
    const core = store.get(key ? { key: unhex(key) } : { name })
    await core.ready()
    cores.add(label, core)
    return cores.info(core)
  },

  listen: () => wire.listen(),
  connect: (args) => wire.connect(args),
  cut: async () => wire.cut(),

  close: async () => {
    wire.close()
    await store.close()
  }
})
