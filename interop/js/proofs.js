'use strict'
// Prints Merkle trees, requests and the proofs that npm hypercore 11.37.1 makes of them, what it makes of those
// proofs (also of spoiled ones) as a reader, and how it searches the common start of two forks. One JSON object a
// line, the same for the same seed:
//   node proofs.js SEED COUNT

const b4a = require('b4a')
const flat = require('flat-tree')
const { MerkleTree, MerkleTreeBatch, ReorgBatch } = require('hypercore/lib/merkle-tree.js')

const hex = (buffer) => (buffer ? b4a.toString(buffer, 'hex') : null)
const random = generator(Number(process.argv[2] || 1))
const count = Number(process.argv[3] || 20)

// reads that a request started before it was found to be wrong
process.on('unhandledRejection', () => {})

main().catch((err) => {
  console.error(err)
  process.exit(1)
})

async function main () {
  for (let i = 0; i < count; i++) {
    print(await proving())
    print(await reading())
    print(await reorganising())
  }
}

// --- what is printed

async function proving () {
  const writer = someTree(below(4) === 0 ? 150 : 40)
  const out = { kind: 'prove', ...treeJson(writer), missing: [], prologue: null, cases: [] }
  if (below(4) === 0) {
    out.missing = forgetSome(writer, 3)
  }
  if (below(4) === 0) {
    const length = 1 + below(writer.length)
    const roots = await MerkleTree.getRootsFromStorage(full(writer), length).catch(() => null)
    if (roots) {
      writer.prologue = { length, hash: MerkleTree.hash({ roots }) }
      out.prologue = { length, hash: hex(writer.prologue.hash) }
    }
  }
  for (let i = 0; i < 12; i++) {
    const request = someRequest(writer)
    out.cases.push({ request, ...(await attempt(async () => proofJson(await prove(writer, request)))) })
  }
  return out
}

async function reading () {
  const writer = someTree(40)
  const have = below(writer.length)
  const reader = cut(writer, have)
  const out = { kind: 'verify', ...treeJson(writer), have, known: [], cases: [] }
  if (have > 0 && below(2) === 0) {
    // some paths are known already
    for (let i = below(3); i >= 0; i--) {
      const index = below(have)
      const proof = await prove(reader.source, { block: { index, nodes: await missing(reader, 2 * index) } })
      proof.block.value = writer.blocks[index].value
      for (const node of (await MerkleTree.verify(reader, proof)).nodes) {
        reader.storage.nodes.set(node.index, node)
        out.known.push(node.index)
      }
    }
  }
  for (let i = 0; i < 12; i++) {
    const request = await honestRequest(reader, writer)
    let proof = null
    try {
      proof = await prove(writer, request)
    } catch {
      continue
    }
    if (proof.block) proof.block.value = writer.blocks[proof.block.index].value
    const spoiled = below(3) > 0 ? spoil(proof) : null
    out.cases.push({
      spoiled,
      proof: proofJson(proof),
      ...(await attempt(async () => batchJson(await MerkleTree.verify(reader, proof))))
    })
  }
  return out
}

async function reorganising () {
  const local = someTree(60)
  const common = below(local.length + 1)
  const remote = grow(local.blocks.slice(0, common), below(40) + (common ? 0 : 1), 'other')
  remote.fork = local.fork + 1
  const out = {
    kind: 'reorg',
    ...treeJson(remote),
    local: local.blocks.map((block) => block.json),
    localFork: local.fork,
    missing: below(3) === 0 ? forgetSome(local, 2) : [],
    steps: []
  }
  const batch = new ReorgBatch(local)
  await MerkleTree.reorg(local, await prove(remote, { upgrade: { start: 0, length: remote.length } }), batch)
  const state = () => ({ ancestors: batch.ancestors, want: batch.want && { ...batch.want } })
  out.begin = state()
  while (batch.want !== null) {
    const end = Math.min(batch.want.end, remote.length)
    if (end <= batch.want.start) break
    const index = 2 * (batch.want.start + below(end - batch.want.start))
    const request = { hash: { index, nodes: batch.want.nodes } }
    let proof = null
    try {
      proof = await prove(remote, request)
    } catch {
      break // the log of the other fork ends inside of what is wanted
    }
    await batch.update(proof)
    out.steps.push({ proof: proofJson(proof), ...state() })
  }
  return out
}

// --- trees

function someTree (max) {
  return grow([], 1 + below(max), 'block')
}

function grow (first, more, name) {
  const writer = session(new Map(), [], below(3))
  const batch = new MerkleTreeBatch(writer)
  const blocks = first.slice()
  const size = below(2) === 0 ? 6 : 300
  for (let i = 0; i < more; i++) blocks.push(someBlock(name, 1 + below(size)))
  for (const block of blocks) batch.append(block.value)
  for (const node of batch.nodes) writer.storage.nodes.set(node.index, node)
  writer.blocks = blocks
  writer.signature = b4a.alloc(64, below(256))
  writer.roots = batch.roots
  writer.length = batch.length
  writer.byteLength = batch.byteLength
  return writer
}

// printed as a word and the length that it is repeated to
function someBlock (name, length) {
  const word = name + below(1e6) + '-'
  return { json: [word, length], value: b4a.from(word.repeat(40).slice(0, length)) }
}

function cut (writer, length) {
  const roots = flat.fullRoots(2 * length).map((index) => writer.storage.nodes.get(index))
  const reader = session(new Map(roots.map((node) => [node.index, node])), roots, writer.fork)
  reader.source = session(writer.storage.nodes, roots, writer.fork)
  for (const s of [reader, reader.source]) {
    s.length = length
    s.byteLength = roots.reduce((sum, node) => sum + node.size, 0)
  }
  return reader
}

function session (nodes, roots, fork) {
  const storage = {
    nodes,
    read: () => ({
      getTreeNode: async (index) => nodes.get(index) || null,
      hasTreeNode: async (index) => nodes.has(index),
      tryFlush () {}
    })
  }
  return { storage, fork, roots, length: 0, byteLength: 0, prologue: null, signature: null, core: {} }
}

function full (s) {
  return s.storage
}

function forgetSome (s, most) {
  const gone = []
  for (let i = below(most); i >= 0; i--) {
    const index = below(2 * s.length)
    if (s.roots.some((root) => root.index === index)) continue
    if (s.storage.nodes.delete(index)) gone.push(index)
  }
  return gone
}

async function prove (s, request) {
  const all = { block: null, hash: null, seek: null, upgrade: null, ...request }
  if (all.upgrade) all.upgrade = { ...all.upgrade }
  const proof = await MerkleTree.proof(s, s.storage.read(), all)
  return proof.settle()
}

function missing (s, index) {
  return MerkleTree.missingNodes(s, index, s.length)
}

// --- requests

// any combination, sensible or not
function someRequest (s) {
  const request = {}
  const upgradeStart = below(3) === 0 ? 0 : below(s.length + 1)
  if (below(2)) request.upgrade = { start: upgradeStart, length: below(s.length - upgradeStart + 1) + (below(10) === 0 ? 1 : 0) }
  const limit = request.upgrade && below(2) ? Math.max(1, request.upgrade.start) : s.length
  const nodes = below(2) ? 0 : below(8)
  if (below(2)) request.block = { index: below(limit), nodes }
  else if (below(2)) request.hash = { index: below(2 * limit - 1), nodes }
  if (below(3) === 0) request.seek = { bytes: below(s.byteLength + 3), padding: below(3) ? 0 : below(4) }
  if (request.seek && request.block && below(2)) {
    // a byte near the block, so that both share a path
    const at = s.blocks.slice(0, request.block.index).reduce((sum, block) => sum + block.value.byteLength, 0)
    request.seek.bytes = Math.max(0, at + below(20) - 10)
    request.block.nodes = below(8)
  }
  return request
}

// what a reader asks for
async function honestRequest (reader, writer) {
  const request = {}
  const upgrade = reader.length < writer.length && (reader.length === 0 || below(2) === 0)
  if (upgrade) {
    const length = below(2) ? writer.length - reader.length : 1 + below(writer.length - reader.length)
    request.upgrade = { start: reader.length, length }
  }
  const end = upgrade ? reader.length + request.upgrade.length : reader.length
  const index = below(end)
  const kind = below(4)
  if (kind < 2 && end > 0) request.block = { index, nodes: await missing(reader, 2 * index) }
  else if (kind === 2 && end > 0) request.hash = { index: 2 * index, nodes: await missing(reader, 2 * index) }
  if (below(4) === 0 && (upgrade || request.block)) request.seek = { bytes: below(writer.byteLength), padding: 0 }
  return request
}

// --- lies

function spoil (proof) {
  const parts = [proof.block, proof.hash, proof.seek, proof.upgrade].filter(Boolean)
  const part = parts[below(parts.length)]
  if (!part) return null
  const lists = [part.nodes, part.additionalNodes].filter((list) => list && list.length)
  const numbers = ['index', 'start', 'length'].filter((name) => name in part)
  switch (below(6)) {
    case 0:
      if (!numbers.length) return null
      part[numbers[below(numbers.length)]] += below(2) ? 1 : 2
      return 'number'
    case 1:
      if (!part.value || !part.value.byteLength) return null
      part.value = flip(part.value)
      return 'value'
    default: {
      if (!lists.length) return null
      const list = lists[below(lists.length)]
      const i = below(list.length)
      const node = { ...list[i] }
      const how = ['hash', 'size', 'index', 'drop', 'twice'][below(5)]
      if (how === 'hash') node.hash = flip(node.hash)
      if (how === 'size') node.size += 1
      if (how === 'index') node.index += 2
      if (how === 'drop') list.splice(i, 1)
      else if (how === 'twice') list.splice(i, 0, node)
      else list[i] = node
      return how
    }
  }
}

function flip (buffer) {
  const copy = b4a.from(buffer)
  copy[below(copy.byteLength)] ^= 1 << below(8)
  return copy
}

// --- JSON

function treeJson (s) {
  return { blocks: s.blocks.map((block) => block.json), fork: s.fork, signature: hex(s.signature), treeHash: hex(MerkleTree.hash(s)) }
}

function nodesJson (nodes) {
  return nodes.map((node) => [node.index, node.size, hex(node.hash)])
}

function proofJson (proof) {
  const { fork, block, hash, seek, upgrade } = proof
  return {
    fork,
    block: block && { index: block.index, value: hex(block.value), nodes: nodesJson(block.nodes) },
    hash: hash && { index: hash.index, nodes: nodesJson(hash.nodes) },
    seek: seek && { bytes: seek.bytes, nodes: nodesJson(seek.nodes) },
    upgrade: upgrade && {
      start: upgrade.start,
      length: upgrade.length,
      nodes: nodesJson(upgrade.nodes),
      additionalNodes: nodesJson(upgrade.additionalNodes),
      signature: hex(upgrade.signature)
    }
  }
}

function batchJson (batch) {
  const nodes = [...new Map(batch.nodes.map((node) => [node.index, node])).values()]
  nodes.sort((a, b) => a.index - b.index)
  return {
    length: batch.length,
    byteLength: batch.byteLength,
    treeHash: hex(MerkleTree.hash(batch)),
    upgraded: batch.upgraded,
    nodes: nodesJson(nodes)
  }
}

async function attempt (work) {
  try {
    return { result: await work() }
  } catch (err) {
    return { error: err.message }
  }
}

function print (object) {
  console.log(JSON.stringify(object))
}

// --- a small generator, so that a seed gives the same lines everywhere (mulberry32)

function generator (seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

function below (n) {
  return Math.floor(random() * n)
}
