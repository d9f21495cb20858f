'use strict'
// Streams for the unmodified Node client to talk over, where the daemon wants an access token: the first frame shows it,
// and after that it is HRPC as ever.
//
//   new HyperspaceClient(stream('ws://127.0.0.1:9001', token))

const net = require('net')
const { Duplex } = require('stream')

/** The frame that shows a token: Access.Present (service 18, method 1) as call 0, which wants no answer. */
function present (token) {
  const text = Buffer.from(token)
  if (text.length > 120) throw new Error('lengths above one byte are not needed here')
  const message = Buffer.concat([Buffer.from([(1 << 3) | 2, text.length]), text])
  return Buffer.concat([Buffer.from([3 + message.length, 18 << 2, 1, 0]), message])
}

exports.stream = function (url, token) {
  const { protocol, hostname, port } = new URL(url)
  const stream = protocol === 'tcp:' ? net.connect({ host: hostname, port: Number(port) }) : new WebSocketStream(url)
  stream.write(present(token))
  return stream
}

/** A stream of bytes over a WebSocket: message borders mean nothing, but 16 MiB are the most for one. */
class WebSocketStream extends Duplex {
  static CHUNK = 1 << 20

  constructor (url) {
    super()
    this.socket = new WebSocket(url)
    this.socket.binaryType = 'arraybuffer'
    this.opened = new Promise((resolve) => { this.socket.onopen = resolve })
    this.socket.onmessage = ({ data }) => this.push(Buffer.from(data))
    this.socket.onerror = ({ error, message }) => this.destroy(error ?? new Error(message))
    this.socket.onclose = ({ code, reason }) => {
      if (code === 1000 || code === 1001) this.push(null)
      else this.destroy(new Error(reason || 'The WebSocket has ended (' + code + ')'))
    }
  }

  _read () {}

  _write (bytes, encoding, done) {
    this.opened.then(() => {
      for (let at = 0; at < bytes.length; at += WebSocketStream.CHUNK) {
        this.socket.send(bytes.subarray(at, at + WebSocketStream.CHUNK))
      }
      done()
    }).catch(done)
  }

  _final (done) {
    this.socket.close(1000)
    done()
  }

  _destroy (error, done) {
    this.socket.close(1000)
    done(error)
  }
}
