'use strict'
// DHT nodes (dht-rpc and hyperdht), as many in one process as wanted, and all on 127.0.0.1.

const { serve, event, hex, unhex } = require('./lines.js')
const { get, commands } = require('./dht-nodes.js')

const reply = (m) => ({
  from: { id: hex(m.from.id), host: m.from.host, port: m.from.port },
  to: { host: m.to.host, port: m.to.port },
  token: hex(m.token),
  closerNodes: m.closerNodes ? m.closerNodes.map(({ host, port }) => ({ host, port })) : null,
  error: m.error,
  value: hex(m.value),
  rtt: m.rtt
})

// The custom commands that the tests use (hyperdht has those up to 10): 107 echoes, 108 fails with error 88, 109 stores
// for those who have a token, 110 goes through a relay and back, as handshakes do: C(lient) to the relay, R(elay) to
// `relayTo`, S(erver) back to the relay.
function answer (dht, name, { relayTo }) {
  dht.on('request', (req) => {
    const { host, port, id } = req.from
    event('request', { name, command: req.command, from: { host, port, id: hex(id) }, value: hex(req.value), token: hex(req.token) })
    switch (req.command) {
      case 107: return req.reply(req.value)
      case 108: return req.error(88)
      case 109: return req.reply(req.token ? Buffer.from('stored') : null)
      case 110: return relayed(req, req.value.toString(), relayTo)
      default: return req.error(1)
    }
  })
}

function relayed (req, value, relayTo) {
  const origin = value.slice(1)
  switch (value[0]) {
    case 'C': return req.relay(Buffer.from('R' + req.from.host + ':' + req.from.port), relayTo)
    case 'R': return req.relay(Buffer.from('S' + origin), req.from)
    case 'S': {
      const [host, port] = origin.split(':')
      return req.reply(Buffer.from('done'), { to: { host, port: Number(port) }, closerNodes: false, token: false })
    }
  }
}

serve({
  ...commands,

  answer: ({ name, ...options }) => answer(get(name), name, options),
  ping: async ({ name, to, size }) => reply(await get(name).ping(to, { size })),
  delayedPing: async ({ name, to, delay }) => reply(await get(name).delayedPing(to, delay)),
  request: async ({ name, to, command, target, value, token }) =>
    reply(await get(name).request({ command, target: unhex(target), value: unhex(value), token: unhex(token) }, to)),
  // Replies of the walk, and the nodes nearest to the target.
  query: async ({ name, target, command, value = null, commit = false }) => {
    const query = get(name).query({ target: unhex(target), command, value: unhex(value) }, { commit })
    const replies = []
    for await (const m of query) replies.push(reply(m))
    return { replies, closest: query.closestNodes.map((node) => ({ id: hex(node.id), host: node.host, port: node.port })) }
  },
  findNode: async ({ name, target }) => {
    const query = get(name).findNode(unhex(target))
    let replies = 0
    for await (const m of query) if (m) replies++
    return { replies, closest: query.closestNodes.map((node) => ({ id: hex(node.id), host: node.host, port: node.port })) }
  }
})
