'use strict'
// The unmodified Node client (npm @hyperspace/client), driven line by line.
//
//   node client.js NAME          the UNIX socket <tmpdir>/NAME.sock
//   node client.js HOST PORT     RPC over TCP

const HyperspaceClient = require('@hyperspace/client')
const { serve, event, hex, unhex } = require('../js/lines.js')

const [host, port] = process.argv.slice(2)
const client = new HyperspaceClient(port ? { host, port: Number(port) } : { host })
const store = client.corestore()
const cores = new Map()
const gets = new Map()
const downloads = new Map()
const locks = new Map()
const extensions = new Map()
const networkExtensions = new Map()

store.on('feed', (core) => event('feed', { key: hex(core.key) }))
client.network.on('peer-add', (remote) => event('network-peer-add', { peer: peer(remote) }))
client.network.on('peer-remove', (remote) => event('network-peer-remove', { peer: peer(remote) }))
process.on('unhandledRejection', (err) => event('unhandled', { message: err.message }))

function at (label) {
  const core = cores.get(label)
  if (core === undefined) throw new Error('No core is open under the label ' + label)
  return core
}

function describe (core) {
  return {
    key: hex(core.key),
    discoveryKey: hex(core.discoveryKey),
    length: core.length,
    byteLength: core.byteLength,
    writable: core.writable,
    peers: core.peers.map(peer)
  }
}

function peer ({ type, remoteAddress, remotePublicKey }) {
  return { type, remoteAddress, remotePublicKey: hex(remotePublicKey) }
}

function status (status) {
  return status && { ...status, discoveryKey: hex(status.discoveryKey) }
}

serve({
  status: () => client.status(),

  open: async ({ core: label, name, key, weak = false }) => {
    const core = key ? store.get(unhex(key), { weak }) : name ? store.get(undefined, { name, weak }) : store.get({ weak })
    core.on('append', () => event('append', { core: label, length: core.length, byteLength: core.byteLength }))
    core.on('close', () => event('close', { core: label }))
    core.on('peer-open', (remote) => event('peer-open', { core: label, peer: peer(remote) }))
    core.on('peer-remove', (remote) => event('peer-remove', { core: label, peer: peer(remote) }))
    await core.ready()
    cores.set(label, core)
    return describe(core)
  },

  describe: async ({ core }) => describe(at(core)),
  append: async ({ core, blocks }) => ({ seq: await at(core).append(blocks.map(unhex)) }),

  // `token` names the get, for cancel; with `watch` the OnWait of the server comes out as an event.
  get: async ({ core, seq, token, watch = false, ...opts }) => {
    if (watch) opts.onwait = (seq) => event('wait', { core, seq })
    const get = at(core).get(seq, opts)
    if (token) gets.set(token, get)
    return hex(await get)
  },
  cancel: async ({ core, token }) => at(core).cancel(gets.get(token)),

  update: async ({ core, ...opts }) => { await at(core).update(opts) },
  has: async ({ core, seq }) => at(core).has(seq),
  seek: async ({ core, byteOffset, ...opts }) => at(core).seek(byteOffset, opts),
  download: async ({ core, token, ...range }) => {
    const download = at(core).download(range)
    if (token) downloads.set(token, download)
    await download
  },
  undownload: async ({ core, token }) => at(core).undownload(downloads.get(token)),
  downloaded: async ({ core, start, end }) => at(core).downloaded(start, end),

  lock: async ({ core }) => { locks.set(core, await at(core).lock()) },
  unlock: ({ core }) => { locks.get(core)() },

  // Received messages of an extension come out as events.
  extension: ({ core, name }) => {
    extensions.set(core + ' ' + name, at(core).registerExtension(name, {
      onmessage: (message, from) => event('extension', { core, name, message: hex(message), peer: peer(from) })
    }))
  },
  // To everybody, or to the peer with this public key.
  extensionSend: ({ core, name, message, to }) => {
    const extension = extensions.get(core + ' ' + name)
    if (!to) return extension.broadcast(unhex(message))
    extension.send(unhex(message), at(core).peers.find((peer) => hex(peer.remotePublicKey) === to))
  },
  extensionDestroy: ({ core, name }) => extensions.get(core + ' ' + name).destroy(),

  network: async () => {
    await client.network.ready()
    return { publicKey: hex(client.network.keyPair.publicKey), peers: client.network.peers.map(peer) }
  },
  configure: async ({ topic, ...opts }) => {
    if (opts.copyFrom) opts.copyFrom = unhex(opts.copyFrom)
    return status((await client.network.configure(unhex(topic), opts)).status)
  },
  networkStatus: async ({ topic }) => status(await client.network.status(unhex(topic))),
  allStatuses: async () => (await client.network.allStatuses()).map(status),
  replicate: async ({ core }) => { await client.replicate(at(core)) },

  // As the extensions of cores.
  networkExtension: ({ name }) => {
    networkExtensions.set(name, client.network.registerExtension(name, {
      onmessage: (message, from) => event('network-extension', { name, message: hex(message), peer: peer(from) })
    }))
  },
  networkExtensionSend: ({ name, message, to }) => {
    const extension = networkExtensions.get(name)
    if (!to) return extension.broadcast(unhex(message))
    extension.send(unhex(message), client.network.peers.find((peer) => hex(peer.remotePublicKey) === to))
  },
  networkExtensionDestroy: ({ name }) => networkExtensions.get(name).destroy(),

  waitLength: ({ core, length }) => new Promise((resolve) => {
    const target = at(core)
    const check = () => {
      if (target.length < length) return
      target.off('append', check)
      resolve({ length: target.length, byteLength: target.byteLength })
    }
    target.on('append', check)
    check()
  }),

  closeCore: async ({ core }) => { await at(core).close() },
  stop: async () => { await client.stop() },
  close: async () => { await client.close() }
})
