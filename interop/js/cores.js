'use strict'
// The commands on one core, the same for hypercore 11 and 10. `open` is the store's own; it registers the core here
// under the label that the other commands name it by.

const c = require('compact-encoding')
const { event, hex, unhex } = require('./lines.js')
const { block, digest } = require('./pattern.js')

module.exports = class Cores {
  constructor (store) {
    this.store = store
    this.open = new Map()
    this.downloads = new Map()
  }

  add (label, core) {
    this.open.set(label, core)
    const seen = { downloaded: 0, uploaded: 0 }
    core.seen = seen
    core.on('download', () => { seen.downloaded++ })
    core.on('upload', () => { seen.uploaded++ })
    core.on('append', () => event('append', { core: label, length: core.length }))
    core.on('truncate', (length, fork) => event('truncate', { core: label, length, fork }))
    core.on('peer-add', () => event('peer-add', { core: label, peers: core.peers.length }))
    core.on('peer-remove', () => event('peer-remove', { core: label, peers: core.peers.length }))
    core.on('conflict', (length, fork) => event('conflict', { core: label, length, fork }))
    core.on('verification-error', (err) => event('verification-error', { core: label, message: err.message }))
    core.on('close', () => event('close', { core: label }))
  }

  get (label) {
    const core = this.open.get(label)
    if (core === undefined) throw new Error('No core is open under the label ' + label)
    return core
  }

  commands () {
    const at = (label) => this.get(label)

    return {
      info: async ({ core }) => this.info(at(core)),

      append: async ({ core, blocks, signature }) => {
        const opts = signature ? { signature: unhex(signature) } : {}
        const { length, byteLength } = await at(core).append(blocks.map(unhex), opts)
        return { length, byteLength }
      },

      // `count` blocks of `size` bytes from the shared pattern, `batch` in one append.
      generate: async ({ core, count, size, salt = 0, batch = 1000 }) => {
        const target = at(core)
        for (let done = 0; done < count;) {
          const blocks = []
          while (blocks.length < batch && done < count) {
            blocks.push(block(target.length + blocks.length, size, salt))
            done++
          }
          await target.append(blocks)
        }
        return { length: target.length }
      },

      get: async ({ core, index, wait = true, timeout = 0 }) => hex(await at(core).get(index, { wait, timeout })),

      // Many gets at once; the answer is the digest of what came, in the order of `indexes`.
      getMany: async ({ core, indexes }) => {
        const sum = digest()
        const target = at(core)
        for (const value of await Promise.all(indexes.map((index) => target.get(index)))) sum.add(value)
        return { digest: sum.finish() }
      },

      has: async ({ core, start, end = start + 1 }) => at(core).has(start, end),
      seek: async ({ core, bytes }) => at(core).seek(bytes),
      truncate: async ({ core, length, fork }) => at(core).truncate(length, fork === undefined ? {} : { fork }),
      clear: async ({ core, start, end }) => { await at(core).clear(start, end) },
      update: async ({ core, wait }) => at(core).update(wait === undefined ? {} : { wait }),

      treeHash: async ({ core, length }) => hex(await treeHash(at(core), length)),

      // The tree hash at each of `lengths`, or at every length from 1 to the present one.
      treeHashes: async ({ core, lengths }) => {
        const target = at(core)
        const hashes = []
        for (const length of lengths || Array.from({ length: target.length }, (_, i) => i + 1)) hashes.push(hex(await treeHash(target, length)))
        return hashes
      },

      // Reads every block of a range (from the network where it must) and answers their digest.
      digest: async ({ core, start = 0, end }) => {
        const target = at(core)
        if (end === undefined) end = target.length
        const sum = digest()
        const window = 256
        for (let first = start; first < end; first += window) {
          const gets = []
          for (let i = first; i < Math.min(end, first + window); i++) gets.push(target.get(i))
          for (const value of await Promise.all(gets)) sum.add(value)
        }
        return { blocks: end - start, digest: sum.finish() }
      },

      download: async ({ core, start = 0, end = -1, linear = false, blocks }) => {
        await at(core).download(blocks ? { blocks } : { start, end, linear }).done()
      },

      // Downloads all there is and all that comes, without an end.
      follow: async ({ core }) => { at(core).download({ start: 0, end: -1 }) },

      waitLength: ({ core, length }) => until(at(core), ['append', 'truncate'], (target) => target.length >= length),
      waitFork: ({ core, fork }) => until(at(core), ['append', 'truncate'], (target) => target.fork >= fork),
      waitWhole: ({ core, length }) => until(at(core), ['append', 'truncate', 'download'], (target) => target.contiguousLength >= length),
      waitPeers: ({ core, count }) => until(at(core), ['peer-add', 'peer-remove'], (target) => target.peers.length === count),

      // Received messages of an extension come out as events. The payload is raw, without a length of its own.
      extension: async ({ core, name }) => {
        const target = at(core)
        target.sent = target.sent || new Map()
        target.sent.set(name, target.registerExtension(name, {
          encoding: c.raw,
          onmessage: (message, peer) => event('extension', { core, name, message: hex(message), peer: hex(peer.remotePublicKey) })
        }))
      },

      extensionSend: async ({ core, name, message }) => {
        at(core).sent.get(name).broadcast(unhex(message))
      },

      closeCore: async ({ core }) => {
        const target = at(core)
        this.open.delete(core)
        await target.close()
      }
    }
  }

  async info (core) {
    return {
      key: hex(core.key),
      discoveryKey: hex(core.discoveryKey),
      id: core.id,
      writable: core.writable,
      length: core.length,
      byteLength: core.byteLength,
      contiguousLength: core.contiguousLength,
      fork: core.fork,
      peers: core.peers.length,
      manifest: manifestToJSON(core.manifest),
      publicKey: core.keyPair ? hex(core.keyPair.publicKey) : null,
      signature: hex(signatureOf(core)),
      treeHash: core.length > 0 && await core.has(core.length - 1) ? hex(await core.treeHash()) : null,
      downloaded: core.seen ? core.seen.downloaded : 0,
      uploaded: core.seen ? core.seen.uploaded : 0
    }
  }
}

// From what is stored: `treeHash` of hypercore 11 gets the last block first, from peers if need be.
function treeHash (core, length = core.length) {
  const { treeHashFromStorage } = core.constructor
  return treeHashFromStorage ? treeHashFromStorage(core, length) : core.treeHash(length)
}

function signatureOf (core) {
  if (core.core && core.core.state) return core.core.state.signature // 11
  return core.core && core.core.tree ? core.core.tree.signature : null // 10
}

function until (core, names, reached) {
  return new Promise((resolve) => {
    const check = () => {
      if (!reached(core)) return
      for (const name of names) core.off(name, check)
      resolve({ length: core.length, fork: core.fork, peers: core.peers.length })
    }
    for (const name of names) core.on(name, check)
    check()
  })
}

function manifestToJSON (manifest) {
  if (!manifest) return null
  return {
    version: manifest.version,
    hash: manifest.hash,
    allowPatch: manifest.allowPatch,
    quorum: manifest.quorum,
    signers: manifest.signers.map((signer) => ({
      signature: signer.signature,
      namespace: hex(signer.namespace),
      publicKey: hex(signer.publicKey)
    })),
    prologue: manifest.prologue ? { hash: hex(manifest.prologue.hash), length: manifest.prologue.length } : null,
    linked: manifest.linked ? manifest.linked.map(hex) : null,
    userData: manifest.userData ? hex(manifest.userData) : null
  }
}

module.exports.manifestFromJSON = function (json) {
  if (!json) return null
  const manifest = { ...json }
  manifest.signers = (json.signers || []).map((signer) => ({
    signature: signer.signature || 'ed25519',
    publicKey: unhex(signer.publicKey),
    ...(signer.namespace ? { namespace: unhex(signer.namespace) } : {})
  }))
  if (json.prologue) manifest.prologue = { hash: unhex(json.prologue.hash), length: json.prologue.length }
  if (json.linked) manifest.linked = json.linked.map(unhex)
  if (json.userData) manifest.userData = unhex(json.userData)
  return manifest
}
