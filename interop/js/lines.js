'use strict'
// The line protocol that every peer here speaks: one JSON object a line. Commands `{ id, do, ...args }` come in on
// stdin; answers `{ id, ok }` or `{ id, error }` and events `{ event, ... }` go out on stdout. Commands start in the
// order in which they came but do not wait for each other. When stdin ends (the test that drives us died), so do we.

const readline = require('readline')

function send (message) {
  process.stdout.write(JSON.stringify(message) + '\n')
}

exports.event = function (event, fields = {}) {
  send({ event, ...fields })
}

exports.serve = function (commands) {
  const input = readline.createInterface({ input: process.stdin, crlfDelay: Infinity })
  input.on('line', async (line) => {
    if (line === '') return
    const { id, do: name, ...args } = JSON.parse(line)
    try {
      if (!Object.hasOwn(commands, name)) throw new Error('Unknown command: ' + name)
      const ok = await commands[name](args)
      send({ id, ok: ok === undefined ? null : ok })
    } catch (err) {
      send({ id, error: { message: err.message, code: err.code || null, stack: err.stack } })
    }
    if (name === 'close') process.exit(0)
  })
  input.on('close', () => process.exit(0))
  send({ event: 'ready', pid: process.pid, node: process.version })
}

exports.hex = (buffer) => buffer ? Buffer.from(buffer).toString('hex') : null
exports.unhex = (string) => typeof string === 'string' ? Buffer.from(string, 'hex') : null
