// A small client of the Hyperspace daemon for browsers: HRPC over a WebSocket.
//
//   import { connect } from './hyperspace.js'
//
//   const daemon = await connect('ws://127.0.0.1:9001', { token })
//   const core = await daemon.open({ name: 'diary' })
//   await core.append('hello')
//   for await (const { index, block } of core.follow()) console.log(index, new TextDecoder().decode(block))
//
// It is meant to be copied: one file, nothing to install. It knows the calls that it needs (Status, Open, Get, Append,
// Update, Close, Configure, the events for new blocks and peers); docs/rpc.md has the others, and each is a few lines here.
// Numbers of the protocol go up to 2^53 - 1.

/** Longer messages are cut: the daemon takes 16 MiB at once, and message borders mean nothing. */
const CHUNK = 1 << 20
/** The largest frame that is taken from the daemon. */
const MAX_FRAME = 256 << 20
/** How long the daemon may take to let us in. */
const PATIENCE = 20_000

// Services and methods as numbers: [service, method].
const STATUS = [1, 1]
const OPEN = [2, 1]
const GET = [3, 1]
const APPEND = [3, 2]
const UPDATE = [3, 3]
const CLOSE = [3, 10]
const CONFIGURE = [4, 2]
const PRESENT = [18, 1]
// Events: calls of the daemon that want no answer.
const ON_APPEND = '3.16'
const ON_CLOSE = '3.17'
const ON_PEER_OPEN = '3.18'
const ON_PEER_REMOVE = '3.19'

const REQUEST = 0
const RESPONSE = 1
const ERROR = 2

const utf8 = new TextEncoder()
const text = new TextDecoder()

// --- protobuf, as far as the schema needs it -------------------------------------------------------------------------

/** Collects the bytes of a message: numbers, and anything that is bytes. Absent values are left out. */
class Writer {
  parts = []
  length = 0

  bytes (bytes) {
    this.parts.push(bytes)
    this.length += bytes.length
    return this
  }

  varint (value) {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${value} is not a number of the protocol`)
    const bytes = []
    while (value > 127) {
      bytes.push((value % 128) | 128)
      value = Math.floor(value / 128)
    }
    bytes.push(value)
    return this.bytes(Uint8Array.from(bytes))
  }

  number (field, value) {
    return value === undefined ? this : this.varint(field << 3).varint(Number(value))
  }

  data (field, value) {
    if (value === undefined) return this
    const bytes = typeof value === 'string' ? utf8.encode(value) : value
    return this.varint((field << 3) | 2).varint(bytes.length).bytes(bytes)
  }

  finish () {
    const whole = new Uint8Array(this.length)
    let at = 0
    for (const part of this.parts) {
      whole.set(part, at)
      at += part.length
    }
    return whole
  }
}

/** Reads an integer at `at`; nothing when it is not there as a whole. */
function varint (bytes, at) {
  let value = 0
  for (let i = 0; i < 8 && at + i < bytes.length; i++) {
    value += (bytes[at + i] & 127) * 2 ** (7 * i)
    if (bytes[at + i] < 128) {
      if (!Number.isSafeInteger(value)) throw new RangeError('a number of the daemon is too large')
      return { value, end: at + i + 1 }
    }
  }
  if (bytes.length - at >= 8) throw new RangeError('the daemon sent a number without an end')
}

/** The fields of a message: what is last under each number, and all of it for numbers in `repeated`. */
function fields (bytes, repeated = []) {
  const found = Object.fromEntries(repeated.map((number) => [number, []]))
  for (let at = 0; at < bytes.length;) {
    const key = need(varint(bytes, at))
    const number = Math.floor(key.value / 8)
    let value
    switch (key.value % 8) {
      case 0:
        ({ value, end: at } = need(varint(bytes, key.end)))
        break
      case 2: {
        const length = need(varint(bytes, key.end))
        at = length.end + length.value
        if (at > bytes.length) need()
        value = bytes.subarray(length.end, at)
        break
      }
      default: throw new TypeError('the daemon sent a kind of field that its schema does not have')
    }
    if (repeated.includes(number)) found[number].push(value)
    else found[number] = value
  }
  return found
}

function need (value) {
  if (value === undefined) throw new RangeError('a message of the daemon ends too early')
  return value
}

// --- the connection --------------------------------------------------------------------------------------------------

/** An error that the daemon answered. `code` is a word for programs, such as EACCES; often there is none. */
export class DaemonError extends Error {
  name = 'DaemonError'

  constructor (message, code) {
    super(message)
    this.code = code
  }
}

/**
 * Connects to a daemon that was started with `--ws-listen` and `--token-file`. The token is one from that file.
 * Rejects when there is no daemon, or when it does not let this page in.
 */
export async function connect (url, { token } = {}) {
  const socket = new WebSocket(url)
  socket.binaryType = 'arraybuffer'
  const daemon = new Daemon(socket)
  const timer = setTimeout(() => daemon.close(), PATIENCE)
  try {
    await new Promise((resolve, reject) => {
      socket.onopen = resolve
      daemon.closed.then(reject)
    })
    // The first frame shows the token; nothing else is listened to before.
    if (token) await daemon.call(PRESENT, new Writer().data(1, token))
  } catch (error) {
    daemon.close()
    throw error
  } finally {
    clearTimeout(timer)
  }
  return daemon
}

/** A connection to a daemon. */
export class Daemon {
  #socket
  #calls = new Map()
  #lastCall = 0
  #cores = new Map()
  #lastCore = 0
  /** Received, and not a whole frame yet: pieces, and how many bytes they have. */
  #pieces = []
  #length = 0

  /** Resolves, with an error that says why, when the connection has ended. */
  closed

  constructor (socket) {
    this.#socket = socket
    this.closed = new Promise((resolve) => {
      socket.onclose = ({ code, reason }) => {
        const why = reason || (code === 1006 ? 'nobody answers, or this page may not connect (--ws-origin)' : '')
        const error = new DaemonError(`The connection to the daemon has ended${why && ': ' + why} (${code})`, code)
        for (const { reject } of this.#calls.values()) reject(error)
        this.#calls.clear()
        for (const core of this.#cores.values()) core.ended(error)
        resolve(error)
      }
    })
    socket.onmessage = ({ data }) => {
      try {
        this.#receive(new Uint8Array(data))
      } catch (error) {
        console.error(error)
        // 4000 to 4999 are for applications.
        socket.close(4002, 'the page does not understand the daemon')
      }
    }
  }

  /** Versions of the daemon and of its RPC. */
  async status () {
    const status = fields(await this.call(STATUS))
    return { apiVersion: text.decode(need(status[1])), version: status[4] ? text.decode(status[4]) : null }
  }

  /**
   * Opens a core by its `key` (64 hexadecimal digits, or 32 bytes) or `name`; without either it makes a new one. As long as
   * this connection stands, the daemon announces the core to its swarm and looks for others who have it; not so with
   * `swarm: false`.
   */
  async open ({ key, name, swarm = true } = {}) {
    const core = new Core(this, this.#lastCore++)
    // Events may come right after the answer.
    this.#cores.set(core.id, core)
    try {
      const bytes = typeof key === 'string' ? fromHex(key) : key
      const opened = fields(await this.call(OPEN, new Writer().number(1, core.id).data(2, bytes).data(3, name)), [5])
      core.opened(opened)
      if (swarm && opened[6]) {
        const wanted = new Writer().data(1, opened[6]).number(2, 1).number(3, 1)
        await this.call(CONFIGURE, new Writer().data(1, wanted.finish()))
      }
      return core
    } catch (error) {
      this.#cores.delete(core.id)
      throw error
    }
  }

  /** Ends the connection; the daemon frees all that was held over it. */
  close () {
    this.#socket.close(1000)
  }

  /** Calls a method; resolves with the bytes of the answer. */
  call (method, message = new Writer()) {
    if (this.#socket.readyState !== WebSocket.OPEN) return this.closed.then((error) => { throw error })
    const id = ++this.#lastCall
    this.#send(method, id, message)
    return new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject }))
  }

  forget (core) {
    this.#cores.delete(core.id)
  }

  /** A frame: its length, `service << 2 | kind`, method, id, message. */
  #send ([service, method], id, message) {
    const head = new Writer().varint((service << 2) | REQUEST).varint(method).varint(id)
    const frame = new Writer().varint(head.length + message.length).bytes(head.finish()).bytes(message.finish()).finish()
    for (let at = 0; at < frame.length; at += CHUNK) this.#socket.send(frame.subarray(at, at + CHUNK))
  }

  #receive (bytes) {
    this.#pieces.push(bytes)
    this.#length += bytes.length
    // One piece, as it nearly always is, is not copied. Of a long frame, many pieces are put together once.
    if (this.#wanted > this.#length) return
    let input = this.#pieces[0]
    if (this.#pieces.length > 1) {
      const writer = new Writer()
      for (const piece of this.#pieces) writer.bytes(piece)
      input = writer.finish()
    }
    let at = 0
    this.#wanted = 0
    for (;;) {
      const length = varint(input, at)
      if (!length) break
      if (length.value > MAX_FRAME) throw new RangeError('the daemon sent a frame that is too large')
      const end = length.end + length.value
      if (end > input.length) {
        this.#wanted = end - at
        break
      }
      // A frame of length 0 means nothing.
      if (length.value > 0) this.#frame(input.subarray(length.end, end))
      at = end
    }
    const rest = input.subarray(at)
    this.#pieces = rest.length ? [rest] : []
    this.#length = rest.length
  }

  /** How many bytes the frame has that has not come as a whole yet; 0 when that is unknown. */
  #wanted = 0

  #frame (frame) {
    const head = need(varint(frame, 0))
    const method = need(varint(frame, head.end))
    const id = need(varint(frame, method.end))
    const message = frame.subarray(id.end)
    const kind = head.value % 4
    if (kind === REQUEST) return this.#event(`${Math.floor(head.value / 4)}.${method.value}`, message)
    const call = this.#calls.get(id.value)
    if (!call) throw new TypeError('the daemon answered a call that was not made')
    this.#calls.delete(id.value)
    if (kind === RESPONSE) return call.resolve(message)
    if (kind !== ERROR) throw new TypeError('the daemon sent a kind of frame that there is not')
    const error = fields(message)
    call.reject(new DaemonError(text.decode(need(error[1])), error[2] && text.decode(error[2])))
  }

  #event (name, message) {
    if (!name.startsWith('3.')) return // of the daemon, not of a core
    const event = fields(message)
    const core = this.#cores.get(event[1] ?? 0)
    if (core) core.event(name, event)
  }
}

/**
 * A core. Events: `append` when it has become longer (or shorter: `length` has it), `peers` when `peers` has changed,
 * `close` with the error as `detail` when nothing more comes.
 */
export class Core extends EventTarget {
  #daemon
  #ended = null

  constructor (daemon, id) {
    super()
    this.#daemon = daemon
    this.id = id
    this.length = 0
    this.byteLength = 0
    this.peers = new Set()
  }

  /** The block at `index`, as bytes. It is asked from peers when the daemon does not have it. */
  async get (index) {
    // Every get needs a number of its own, to be cancelled by.
    const answer = fields(await this.#daemon.call(GET, this.#message().number(2, index).number(3, this.#resource++)))
    return answer[1] ?? new Uint8Array()
  }

  #resource = 0

  /** Appends a block or several (strings or bytes), all or none; resolves with the index of the first. */
  async append (blocks) {
    const message = this.#message()
    for (const block of Array.isArray(blocks) ? blocks : [blocks]) message.data(2, block)
    return fields(await this.#daemon.call(APPEND, message))[3] ?? 0
  }

  /** Asks peers for a longer length; rejects when nobody has one. */
  async update () {
    await this.#daemon.call(UPDATE, this.#message().number(2, this.length + 1))
  }

  /** Blocks from `start` on, as `{ index, block }`: those that are there, and then whatever comes. */
  async * follow (start = 0) {
    for (let index = start; ; index++) {
      while (index >= this.length) await this.#change()
      yield { index, block: await this.get(index) }
    }
  }

  /** Ends the session. The core itself stays with the daemon. */
  async close () {
    await this.#daemon.call(CLOSE, this.#message())
    this.#daemon.forget(this)
    this.ended(new DaemonError('The core was closed'))
  }

  #message () {
    return new Writer().number(1, this.id)
  }

  #change () {
    if (this.#ended) return Promise.reject(this.#ended)
    return new Promise((resolve, reject) => {
      const settle = () => {
        this.removeEventListener('append', settle)
        this.removeEventListener('close', settle)
        if (this.#ended) reject(this.#ended)
        else resolve()
      }
      this.addEventListener('append', settle)
      this.addEventListener('close', settle)
    })
  }

  // --- for the connection

  opened (answer) {
    this.key = toHex(need(answer[1]))
    this.length = answer[2] ?? 0
    this.byteLength = answer[3] ?? 0
    this.writable = answer[4] === 1
    for (const peer of answer[5]) this.peers.add(toHex(need(fields(peer)[1])))
  }

  event (name, event) {
    switch (name) {
      case ON_APPEND:
        this.length = event[2] ?? 0
        this.byteLength = event[3] ?? 0
        this.dispatchEvent(new Event('append'))
        break
      case ON_PEER_OPEN:
        this.peers.add(toHex(need(fields(need(event[2]))[1])))
        this.dispatchEvent(new Event('peers'))
        break
      case ON_PEER_REMOVE:
        this.peers.delete(toHex(need(fields(need(event[2]))[1])))
        this.dispatchEvent(new Event('peers'))
        break
      case ON_CLOSE:
        this.ended(new DaemonError('The core was closed by the daemon'))
        break
    }
  }

  ended (error) {
    if (this.#ended) return
    this.#ended = error
    this.dispatchEvent(new CustomEvent('close', { detail: error }))
  }
}

/** Bytes in hexadecimal. */
export function toHex (bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

/** The 32 bytes of a key in hexadecimal. */
export function fromHex (hex) {
  if (!/^[0-9a-f]{64}$/i.test(hex)) throw new TypeError('a key has 64 hexadecimal digits')
  return Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16))
}
