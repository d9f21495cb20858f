'use strict'
// Signatures of several signers: each signs the tree of a draft (a local core with the same blocks) at the length it
// has seen, and the parts are assembled as hypercore does it, with patches for those who signed a longer tree than the
// one that is appended.

const crypto = require('hypercore-crypto')
const Hypercore = require('hypercore')
const caps = require('hypercore/lib/caps')
const multisig = require('hypercore/lib/multisig')
const { hex, unhex } = require('./lines.js')

// `signers`: [{ index, seed, length }], no length below `length`. Answers the multi-signature of `core` for the first
// `length` blocks of `draft`.
module.exports = async function cosign ({ core, draft, signers, length = draft.length }) {
  const manifest = core.manifest
  const parts = []
  for (const { index, seed, length: seen = length } of signers) {
    const { secretKey } = crypto.keyPair(unhex(seed))
    const context = manifest.version === 0 ? manifest.signers[index].namespace : Hypercore.key(manifest)
    const signable = caps.treeSignable(context, await draft.treeHash(seen), seen, core.fork)
    parts.push(await multisig.partialSignature(draft.core, index, length, seen, crypto.sign(signable, secretKey)))
  }
  const assemble = manifest.version === 0 ? multisig.assemblev0 : multisig.assemble
  return { signature: hex(assemble(parts)) }
}
