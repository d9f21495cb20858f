'use strict'
// The old Node daemon, without a network, to show that the client script is right and what programs are used to.
//
//   node server.js FOLDER NAME

const { Server } = require('hyperspace')
const { serve } = require('../js/lines.js')

const [storage, host] = process.argv.slice(2)
const server = new Server({ storage, host, network: { bootstrap: false, announceLocalNetwork: false }, noAnnounce: true })

server.ready().then(() => serve({ close: () => server.close() }), (err) => {
  console.error(err)
  process.exit(1)
})
