'use strict'
// tape, as the tests of npm hyperspace (5) and of npm hyperdrive (4) want it. It says which test runs (races.js), and
// leaves out those of hyperdrive that cannot be run on a daemon (left-out.json).

const races = require('./races.js')
const leftOut = require('./left-out.json')

function wrapped (tape, leftOut) {
  function test (name, work) {
    const reason = leftOut[name] || (work ? null : 'it is empty')
    if (reason) return tape.skip(name + ' (' + reason + ')')
    tape(name, (t) => {
      races.started(name)
      return work(t)
    })
  }
  return Object.assign(test, { skip: tape.skip })
}

exports.hyperspace = wrapped(require('tape'), {})
exports.hyperdrive = wrapped(require('tape4'), leftOut)
