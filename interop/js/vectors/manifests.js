'use strict'
// Manifests of every kind with their keys, and signatures, good and bad, with the verdict of npm hypercore 11.37.1 on
// them. One JSON object a line:
//   node vectors/manifests.js > ../../crates/hypercore/tests/vectors/manifests.jsonl
//
// The tree that is signed has blocks `block 0`, `block 1`, ...; key pair n is that of the seed of 32 bytes n.

const b4a = require('b4a')
const c = require('compact-encoding')
const crypto = require('hypercore-crypto')
const messages = require('hypercore/lib/messages.js')
const multisig = require('hypercore/lib/multisig.js')
const Verifier = require('hypercore/lib/verifier.js')
const { MerkleTree, MerkleTreeBatch } = require('hypercore/lib/merkle-tree.js')

const hex = (buffer) => (buffer ? b4a.toString(buffer, 'hex') : null)
const pair = (n) => crypto.keyPair(b4a.alloc(32, n))
const signers = (...ns) => ns.map((n) => ({ signature: 'ed25519', publicKey: pair(n).publicKey }))
const prologue = (length) => ({ length, hash: MerkleTree.hash(tree(length)) })

main().catch((err) => {
  console.error(err)
  process.exit(1)
})

async function main () {
  const linked = [b4a.alloc(32, 7), b4a.alloc(32, 8)]
  const userData = b4a.from('user data')
  const named = [{ ...signers(1)[0], namespace: b4a.alloc(32, 9) }]
  await all('v0 one signer', { version: 0, signers: signers(1) })
  await all('v0 namespace', { version: 0, signers: named })
  await all('v0 one signer, patches', { version: 0, allowPatch: true, signers: signers(1) })
  await all('v0 two of three', { version: 0, quorum: 2, signers: signers(1, 2, 3) })
  await all('v0 two of three, patches', { version: 0, quorum: 2, allowPatch: true, signers: signers(1, 2, 3) })
  await all('v0 static', { version: 0, prologue: { ...prologue(4), length: 0 } })
  await all('v1 default', { signers: signers(1) })
  await all('v1 namespace', { signers: named })
  await all('v1 one of two', { quorum: 1, signers: signers(1, 2) })
  await all('v1 two of three', { quorum: 2, signers: signers(1, 2, 3) })
  await all('v1 two of three, patches', { quorum: 2, allowPatch: true, signers: signers(1, 2, 3) })
  await all('v1 three of three, patches', { quorum: 3, allowPatch: true, signers: signers(1, 2, 3) })
  await all('v1 quorum of none', { quorum: 0, signers: signers(1) })
  await all('v1 static', { prologue: prologue(5) })
  await all('v1 prologue', { prologue: prologue(3), signers: signers(1) })
  await all('v1 prologue to the end', { prologue: prologue(5), signers: signers(1) })
  await all('v1 other prologue', { prologue: { length: 5, hash: b4a.alloc(32, 1) }, signers: signers(1) })
  await all('v1 prologue, two of two, patches', { prologue: prologue(3), quorum: 2, allowPatch: true, signers: signers(1, 2) })
  await all('v2 linked', { linked, signers: signers(1) })
  await all('v2 user data', { userData, signers: signers(1) })
  await all('v2 everything', { linked, userData, prologue: prologue(2), allowPatch: true, quorum: 2, signers: signers(1, 2, 3) })
  await all('v3', { version: 3, signers: signers(1) })
  await all('compat', { signers: signers(1) }, pair(1).publicKey)
}

async function all (name, input, key = null) {
  const manifest = Verifier.createManifest(input)
  if (key === null) key = Verifier.manifestHash(manifest)
  const verifier = new Verifier(key, manifest)
  const encoded = Verifier.encodeManifest(manifest)
  const out = {
    name,
    manifest: hex(encoded),
    hash: hex(Verifier.manifestHash(manifest)),
    key: hex(key),
    compat: verifier.compat,
    decodedHash: hex(Verifier.manifestHash(Verifier.decodeManifest(encoded))),
    signed: [],
    verdicts: []
  }

  const short = tree(5, verifier.prologue)
  const long = tree(8, verifier.prologue)
  for (let n = 1; n <= manifest.signers.length; n++) out.signed.push(hex(verifier.sign(short, pair(n))))

  const bare = (t, n) => {
    const signature = verifier.sign(t, pair(n))
    return signature.byteLength === 64 ? signature : c.decode(messages.multiSignature, signature).proofs[0].signature
  }
  const part = (n, place = n - 1) => ({ signer: place, signature: bare(short, n), patch: 0, nodes: null })
  const ahead = async (n) => {
    const session = { ...long, state: { ...long, signature: bare(long, n) } }
    return multisig.partialSignature(session, n - 1, 5, 8, bare(long, n))
  }
  const try_ = (what, signature, on = short) => {
    let verdict = false
    try {
      verdict = verifier.verify(on, signature)
    } catch {}
    out.verdicts.push({ what, length: on.length, fork: on.fork, signature: hex(signature), verdict })
  }

  try_('none', null)
  try_('empty', b4a.alloc(0))
  try_('zeros', b4a.alloc(100))
  if (manifest.signers.length > 0) {
    const n = manifest.signers.length
    const one = part(1)
    try_('bare', one.signature)
    try_('one', verifier.assemble([one]))
    try_('one, bytes behind', b4a.concat([verifier.assemble([one]), b4a.alloc(3)]))
    try_('one, other length', verifier.assemble([one]), long)
    try_('one, other fork', verifier.assemble([one]), { ...tree(5), fork: 1, __proto__: MerkleTreeBatch.prototype })
    try_('bare, other length', one.signature, long)
    try_('one, cut', verifier.assemble([one]).subarray(0, 50))
    try_('twice', verifier.assemble([one, one]))
    try_('no such signer', verifier.assemble([{ ...one, signer: n }]))
    try_('not a signer', verifier.assemble([{ ...one, signature: crypto.sign(b4a.alloc(112), pair(9).secretKey) }]))
    try_('ahead without nodes', verifier.assemble([{ ...one, patch: verifier.version === 0 ? 0 : 3 }]))
    try_('one ahead', verifier.assemble([await ahead(1)]))
    try_('inside the prologue', verifier.assemble([one]), tree(2))
    if (n > 1) {
      try_('two', verifier.assemble([one, part(2)]))
      try_('two, turned', verifier.assemble([part(2), one]))
      try_('two, swapped', verifier.assemble([part(1, 1), part(2, 0)]))
      try_('two, one ahead', verifier.assemble([one, await ahead(2)]))
      try_('two, both ahead', verifier.assemble([await ahead(1), await ahead(2)]))
      try_('two, a bad third', verifier.assemble([one, part(2), { ...one, signer: 2 }]))
      const bent = await ahead(2)
      bent.nodes = bent.nodes.map((node) => ({ ...node, size: node.size + 1 }))
      try_('two, bent nodes', verifier.assemble([one, bent]))
      try_('two, ahead only', verifier.assemble([one, await ahead(2)]), long)
    }
    if (n > 2) {
      try_('three', verifier.assemble([one, part(2), part(3)]))
      try_('three, two ahead', verifier.assemble([await ahead(3), one, await ahead(2)]))
    }
  }
  console.log(JSON.stringify(out))
}

function tree (length, prologue = null) {
  const nodes = new Map()
  const storage = {
    read: () => ({ getTreeNode: async (index) => nodes.get(index) || null, tryFlush () {}, destroy () {} })
  }
  const session = { fork: 0, roots: [], length: 0, byteLength: 0, signature: null, prologue, storage }
  const batch = new MerkleTreeBatch(session)
  for (let i = 0; i < length; i++) batch.append(b4a.from('block ' + i))
  for (const node of batch.nodes) nodes.set(node.index, node)
  session.prologue = prologue
  return batch
}
