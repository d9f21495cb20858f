'use strict'
// tape, as the tests of npm hyperspace (5) and of npm hyperdrive (4) want it. It says which test runs (races.js), and
// leaves out those of hyperdrive that cannot be run on a daemon.

const races = require('./races.js')

const leftOut = {
  'provide keypair': 'the RPC has no words for the key pair of a core',
  'can watch multiple mounts': 'it counts on events in the tick in which a write is done',
  'can watch nested mounts': 'it counts on events in the tick in which a write is done',
  'can watch cyclic mounts': 'it counts on events in the tick in which a write is done'
}
// With the Node server as well, the client answers that later.
for (const name of [
  'drive mirroring',
  'can cancel a mirror',
  'calling mirror is idempotent',
  'mirroring also mirrors mounts',
  'mirroring mirrors dynamically-added mounts',
  'last unmirror will clean up if mirror is called many times'
]) leftOut[name] = 'it counts on an answer of downloaded() in the same tick'

function reason (name, work) {
  if (!work) return 'it is empty'
  const text = work.toString()
  if (/\] = r\.replicate\(|\.replicate\((true|false)/.test(text)) return 'it does something to the stream between stores'
  if (/\bhyperdrive\(|\btmp\(/.test(text)) return 'it makes a store of its own'
  return leftOut[name]
}

exports.hyperspace = function (name, work) {
  require('tape')(name, (t) => {
    if (races.started(name)) t.comment('slowed')
    return work(t)
  })
}

exports.hyperdrive = function (name, work) {
  const why = reason(name, work)
  if (why) require('tape4')(name, (t) => t.skip(why) || t.end())
  else require('tape4')(name, (t) => {
    // One that writes at one daemon and reads at the other counts on the news being there at once.
    if (/\breplicate\(/.test(work.toString())) t.comment('slowed')
    return work(t)
  })
}
exports.hyperdrive.skip = require('tape4').skip
