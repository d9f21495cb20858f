'use strict'
// What programs build on the Node client: drives, tries and B-trees (npm hyperdrive 10, hypertrie 5, hyperbee 1), all
// of it unmodified, driven line by line.
//
//   node programs.js HOST PORT       RPC over TCP

const fs = require('fs')
const path = require('path')
const { createCipheriv, createHash } = require('crypto')
const { promisify } = require('util')
const HyperspaceClient = require('@hyperspace/client')
const hyperdrive = require('hyperdrive')
const hypertrie = require('hypertrie')
const Hyperbee = require('hyperbee')
const { serve, hex, unhex } = require('../js/lines.js')

const [host, port] = process.argv.slice(2)
const client = new HyperspaceClient({ host, port: Number(port) })

// Files that are read or written at the same time.
const AT_ONCE = 16

// Deterministic content: file `i`, so many bytes.
function content (i, size) {
  const key = createHash('sha256').update('file ' + i).digest()
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size))
}

// Mostly small files, one in ten empty, one in twenty of many blocks, a few of more than a MiB.
function sizeOf (i) {
  if (i % 10 === 3) return 0
  if (i % 200 === 7) return (1 << 20) + 97 * i
  if (i % 20 === 11) return 50000 + 131 * i
  return 1 + (i * 7919) % 5000
}

const nameOf = (i) => `/part-${i % 7}/sub ${i % 13}/file-${i}.bin`

async function each (items, work) {
  const queue = [...items].entries()
  const worker = async () => { for (const [at, item] of queue) await work(item, at) }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
}

// One line for everything: names, sizes, contents.
function digest (entries) {
  const hash = createHash('sha256')
  for (const [name, data] of [...entries].sort(([a], [b]) => a < b ? -1 : 1)) {
    hash.update(`${name} ${data.length} `).update(createHash('sha256').update(data).digest())
  }
  return hash.digest('hex')
}

function walk (folder, under = '') {
  const found = []
  for (const entry of fs.readdirSync(path.join(folder, under), { withFileTypes: true })) {
    const name = under + '/' + entry.name
    if (entry.isDirectory()) found.push(...walk(folder, name))
    else found.push(name)
  }
  return found
}

async function collect (stream) {
  const items = []
  for await (const item of stream) items.push(item)
  return items
}

async function all (iterator) {
  const next = promisify(iterator.next.bind(iterator))
  const items = []
  for (let item = await next(); item !== null; item = await next()) items.push(item)
  return items
}

function describe (entries, more = {}) {
  let bytes = 0
  for (const data of entries.values()) bytes += data.length
  return { digest: digest(entries), files: entries.size, bytes, ...more }
}

const drives = new Map()

async function openDrive (key) {
  const id = key || 'new'
  if (!drives.has(id)) {
    const drive = hyperdrive(client.corestore(), unhex(key))
    await drive.promises.ready()
    if (!drive.writable) await client.replicate(drive)
    drives.set(id, drive)
    drives.set(hex(drive.key), drive)
  }
  return drives.get(id)
}

async function openTrie (key) {
  const feed = client.corestore().get(unhex(key))
  const trie = hypertrie(null, null, { feed, valueEncoding: 'json' })
  await promisify(trie.ready.bind(trie))()
  if (!feed.writable) await client.replicate(feed)
  const call = {}
  for (const name of ['put', 'get', 'del', 'batch']) call[name] = promisify(trie[name].bind(trie))
  return { feed, trie, call }
}

async function openBee (key) {
  const feed = client.corestore().get(unhex(key))
  const bee = new Hyperbee(feed, { keyEncoding: 'utf-8', valueEncoding: 'json' })
  await bee.ready()
  if (!feed.writable) await client.replicate(feed)
  return { feed, bee }
}

// What a trie holds, and how it came to.
async function describeTrie ({ feed, trie, call }, middle) {
  const list = await all(trie.iterator())
  const under = await all(trie.iterator('group-3'))
  const history = await all(trie.history())
  const diff = await all(trie.diff(middle))
  const got = await call.get('group-3/key-13')
  const gone = await call.get('group-0/key-0')
  return {
    length: feed.length,
    count: list.length,
    digest: digest(new Map(list.map((node) => [node.key, Buffer.from(JSON.stringify(node.value))]))),
    under: under.length,
    history: history.length,
    diff: diff.map(({ key, left, right }) => [key, left && left.value, right && right.value]).sort(),
    got: got.value,
    gone
  }
}

async function describeBee ({ feed, bee }, middle) {
  const list = await collect(bee.createReadStream())
  const range = await collect(bee.createReadStream({ gte: 'key-00100', lt: 'key-00200', reverse: true }))
  const history = await collect(bee.createHistoryStream())
  const diff = await collect(bee.createDiffStream(middle))
  const got = await bee.get('key-00012')
  const gone = await bee.get('key-00000')
  return {
    length: feed.length,
    count: list.length,
    digest: digest(new Map(list.map(({ key, value }) => [key, Buffer.from(JSON.stringify(value))]))),
    range: range.map(({ key }) => key),
    history: history.length,
    deleted: history.filter(({ type }) => type === 'del').length,
    diff: diff.map(({ left, right }) => [(left || right).key, left && left.value, right && right.value]).sort(),
    got: got.value,
    gone
  }
}

const bees = new Map()
const tries = new Map()

serve({
  // Writes a folder of files for importDrive.
  generate: ({ folder, count }) => {
    for (let i = 0; i < count; i++) {
      const file = path.join(folder, nameOf(i))
      fs.mkdirSync(path.dirname(file), { recursive: true })
      fs.writeFileSync(file, content(i, sizeOf(i)))
    }
    return describe(new Map(walk(folder).map((name) => [name, fs.readFileSync(path.join(folder, name))])))
  },

  // Imports a folder into a new drive, a stream for each file.
  importDrive: async ({ folder }) => {
    const drive = await openDrive()
    await each(walk(folder), (name) => new Promise((resolve, reject) => {
      const sink = drive.createWriteStream(name)
      fs.createReadStream(path.join(folder, name)).on('error', reject).pipe(sink)
      sink.on('error', reject).on('finish', resolve)
    }))
    await client.replicate(drive)
    return { key: hex(drive.key), version: drive.version }
  },

  // Reads every file of a drive: how many, how many bytes, what is in them.
  readDrive: async ({ key }) => {
    const drive = await openDrive(key)
    const names = (await drive.promises.readdir('/', { recursive: true }))
    const entries = new Map()
    await each(names, async (name) => {
      if ((await drive.promises.stat(name)).isFile()) entries.set('/' + name, await drive.promises.readFile(name))
    })
    return describe(entries, { version: drive.version })
  },

  // Changes a few files of a drive.
  changeDrive: async ({ key }) => {
    const drive = await openDrive(key)
    const before = drive.version
    await drive.promises.writeFile('/later.txt', 'written later')
    await drive.promises.unlink(nameOf(1))
    await drive.promises.writeFile(nameOf(2), 'something else')
    await drive.promises.mkdir('/empty folder')
    await drive.promises.symlink('/later.txt', '/link.txt')
    return { before, after: drive.version }
  },

  // A part of a file, a range across blocks, and what stat says of it.
  readPart: async ({ key, index, start, end }) => {
    const drive = await openDrive(key)
    const part = Buffer.concat(await collect(drive.createReadStream(nameOf(index), { start, end: end - 1 })))
    const { size } = await drive.promises.stat(nameOf(index))
    const same = part.equals(content(index, sizeOf(index)).subarray(start, end))
    return { length: part.length, size, same }
  },

  // Waits until a drive has this version.
  waitVersion: async ({ key, version }) => {
    const drive = await openDrive(key)
    await new Promise((resolve) => {
      const check = () => { if (drive.version >= version) resolve() }
      drive.metadata.on('append', check)
      check()
    })
  },

  // What changed in a drive since a version, and how it was then.
  diffDrive: async ({ key, version }) => {
    const drive = await openDrive(key)
    const changes = await collect(drive.createDiffStream(version))
    const then = drive.checkout(version)
    const old = await then.promises.readFile(nameOf(2))
    const link = await drive.promises.readFile('/link.txt', 'utf-8')
    return {
      changes: changes.map(({ type, name }) => type + ' ' + name).sort(),
      oldWasRight: old.equals(content(2, sizeOf(2))),
      link
    }
  },

  writeTrie: async ({ count }) => {
    const opened = await openTrie()
    const { feed, trie, call } = opened
    const name = (i) => `group-${i % 10}/key-${i}`
    for (let i = 0; i < count / 2; i++) await call.put(name(i), { value: i })
    const half = []
    for (let i = count / 2; i < count; i++) half.push({ type: 'put', key: name(i), value: { value: i } })
    await call.batch(half)
    const middle = trie.version
    for (let i = 0; i < count; i += 5) await call.del(name(i))
    for (let i = 1; i < 50; i += 5) await call.put(name(i), { value: 'new ' + i })
    tries.set(hex(feed.key), opened)
    await client.replicate(feed)
    return { key: hex(feed.key), middle }
  },

  readTrie: async ({ key, middle }) => describeTrie(tries.get(key) || await openTrie(key), middle),

  writeBee: async ({ count }) => {
    const opened = await openBee()
    const { feed, bee } = opened
    const name = (i) => 'key-' + String(i).padStart(5, '0')
    for (let i = 0; i < count / 4; i++) await bee.put(name(i), { value: i })
    const batch = bee.batch()
    for (let i = count / 4; i < count; i++) await batch.put(name(i), { value: i })
    await batch.flush()
    const middle = bee.version
    for (let i = 0; i < count; i += 10) await bee.del(name(i))
    for (let i = 1; i < 100; i += 10) await bee.put(name(i), { value: 'new ' + i })
    bees.set(hex(feed.key), opened)
    await client.replicate(feed)
    return { key: hex(feed.key), middle }
  },

  readBee: async ({ key, middle }) => describeBee(bees.get(key) || await openBee(key), middle),

  close: async () => { await client.close() }
})
