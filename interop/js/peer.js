'use strict'
// A peer of today: Corestore 7 with hypercore 11.
//
//   node peer.js FOLDER [PRIMARY_KEY_HEX]

const Corestore = require('corestore')
const Hypercore = require('hypercore')
const crypto = require('hypercore-crypto')
const Cores = require('./cores.js')
const Wire = require('./wire.js')
const cosign = require('./cosign.js')
const { serve, hex, unhex } = require('./lines.js')

const [folder, primaryKey] = process.argv.slice(2)
const store = new Corestore(folder, primaryKey ? { primaryKey: unhex(primaryKey), unsafe: true } : {})
const cores = new Cores(store)
const wire = new Wire((stream) => store.replicate(stream))

serve({
  ...cores.commands(),

  store: async () => {
    await store.ready()
    const discoveryKeys = []
    for await (const discoveryKey of store.list()) discoveryKeys.push(hex(discoveryKey))
    return { primaryKey: hex(store.primaryKey), discoveryKeys: discoveryKeys.sort() }
  },

  // By name (in nested namespaces), key, discovery key or manifest; `seed` is that of a key pair given by hand.
  open: async ({ core: label, name, namespace = [], key, discoveryKey, manifest, seed, compat = false, ...opts }) => {
    let session = store
    for (const part of namespace) session = session.namespace(part)
    const keyPair = seed ? crypto.keyPair(unhex(seed)) : null
    const given = Cores.manifestFromJSON(manifest)
    if (compat) {
      await createCompat(keyPair)
      key = hex(keyPair.publicKey)
    }
    const core = session.get({
      ...opts,
      ...(name ? { name } : {}),
      ...(key ? { key: unhex(key) } : {}),
      ...(discoveryKey ? { discoveryKey: unhex(discoveryKey) } : {}),
      ...(given ? { manifest: given } : {}),
      ...(keyPair ? { keyPair } : {})
    })
    await core.ready()
    cores.add(label, core)
    return cores.info(core)
  },

  setGroup: async ({ core, topic }) => cores.get(core).setGroup(unhex(topic)),

  // The keys of a group's cores, in the order in which they changed.
  group: async ({ topic }) => {
    const group = await store.storage.getGroup(unhex(topic))
    const keys = []
    for await (const key of store.storage.createGroupUpdateStream(group, { reverse: false })) keys.push(hex(key))
    return { keys }
  },

  staticify: async ({ core, as }) => {
    const core2 = await store.staticify(cores.get(core))
    cores.add(as, core2)
    return cores.info(core2)
  },

  manifestKey: async ({ manifest }) => ({ key: hex(Hypercore.key(Cores.manifestFromJSON(manifest))) }),
  cosign: ({ core, draft, ...rest }) => cosign({ core: cores.get(core), draft: cores.get(draft), ...rest }),

  listen: () => wire.listen(),
  connect: (args) => wire.connect(args),
  cut: async () => wire.cut(),

  close: async () => {
    wire.close()
    await store.close()
  }
})

// Corestore never makes a core whose key is the public key itself; hypercore does when told to, in the same storage.
async function createCompat (keyPair) {
  if (await store.storage.hasCore(crypto.discoveryKey(keyPair.publicKey))) return
  const core = Hypercore.createCore(store.storage, { compat: true, key: keyPair.publicKey, keyPair })
  await core.ready()
  await core.close()
}
