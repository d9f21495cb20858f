'use strict'
// Runs files of an npm package's tests on our daemon:
//
//   HYPERSPACE_SERVER=target/release/hyperspace-server node suite.js hyperspace/test/local.js
//
// With --node those of hyperspace run on the Node server, to know what fails there.

const files = process.argv.slice(2)
if (files[0] === '--node') files.shift()
else require('./preload.js')

// What a failed test left open must not keep the process.
require(files[0].startsWith('hyperdrive/') ? 'tape4' : 'tape').onFinish(() => process.exit())
for (const file of files) require('./node_modules/' + file)
