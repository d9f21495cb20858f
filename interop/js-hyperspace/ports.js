'use strict'
// Tests of npm packages name fixed ports; here the daemon takes any free one, and whoever connects to the fixed port
// reaches that.

const net = require('net')

const ports = new Map()

function redirected (connect) {
  return function (target, ...rest) {
    if (target && ports.has(target.port)) target = { host: '127.0.0.1', port: ports.get(target.port) }
    return connect.call(net, target, ...rest)
  }
}

net.connect = redirected(net.connect)
net.createConnection = redirected(net.createConnection)

module.exports = ports
