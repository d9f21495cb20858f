'use strict'
// What names yield in npm corestore 7.12.5 for the primary key of 32 bytes 1: a JSON object a line.
//   node vectors/names.js > ../../crates/corestore/tests/vectors/names.jsonl

const fs = require('fs')
const os = require('os')
const path = require('path')
const b4a = require('b4a')
const Corestore = require('corestore')

const hex = (buffer) => b4a.toString(buffer, 'hex')

async function main() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'names-'))
  const store = new Corestore(folder, { primaryKey: b4a.alloc(32, 1), unsafe: true })
  const spaces = [[], ['a'], ['a', 'b'], ['ab'], [''], ['\u00e9\0']]
  for (const namespaces of spaces) {
    let inner = store
    for (const name of namespaces) inner = inner.namespace(name)
    for (const name of ['log', 'x', '\u00e9t\u00e9', 'with\0zero', 'a longer name with spaces'.repeat(8)]) {
      const pair = await inner.createKeyPair(name)
      const core = inner.get({ name })
      await core.ready()
      console.log(
        JSON.stringify({
          namespaces,
          namespace: hex(inner.ns),
          name,
          publicKey: hex(pair.publicKey),
          secretKey: hex(pair.secretKey),
          key: hex(core.key),
          discoveryKey: hex(core.discoveryKey)
        })
      )
    }
  }
  await store.close()
  fs.rmSync(folder, { recursive: true })
}

main()
