'use strict'
// Runs files of an npm package's tests on our daemon:
//
//   HYPERSPACE_SERVER=target/release/hyperspace-server node suite.js hyperspace/test/local.js
//
// With --node those of hyperspace run on the Node server, to know what fails there. Its peers do not find each other at
// 127.0.0.1: `--node=IP` makes `localhost` that address, in a network namespace that has it, as two-daemons.js does. With
// `--only=NAME` one test runs alone. repeat.js does both, many times.

const dns = require('dns')

const options = new Map()
const files = process.argv.slice(2).filter((argument) => {
  const [option, value] = argument.split(/=(.*)/s)
  if (option.startsWith('--')) options.set(option, value)
  return !option.startsWith('--')
})
if (!options.has('--node')) require('./preload.js')
else if (options.get('--node')) {
  const lookup = dns.lookup
  dns.lookup = (host, ...rest) => lookup(host === 'localhost' ? options.get('--node') : host, ...rest)
}

const name = files[0].startsWith('hyperdrive/') ? 'tape4' : 'tape'
const tape = require(name)
if (options.has('--only')) {
  const only = (test, work) => test === options.get('--only') && tape(test, work)
  require.cache[require.resolve(name)].exports = Object.assign(only, tape)
}
// What a failed test left open must not keep the process.
tape.onFinish(() => process.exit())
for (const file of files) require('./node_modules/' + file)
