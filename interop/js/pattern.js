'use strict'
// Blocks that both sides can make from (index, size, salt) alone, so that gigabytes need not cross the pipe. The Rust
// side of the same generator is `interop::pattern`.

const { createHash } = require('crypto')

exports.block = function (index, size, salt = 0) {
  const words = new Uint32Array(Math.ceil(size / 4))
  let x = (Math.imul(index + 1, 0x9e3779b1) ^ salt) >>> 0
  if (x === 0) x = 1
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    words[i] = x
  }
  return Buffer.from(words.buffer, 0, size)
}

// BLAKE2b-512 over every block, each preceded by its length in eight little-endian bytes: equal digests, equal blocks.
exports.digest = function () {
  const hash = createHash('blake2b512')
  const length = Buffer.alloc(8)
  return {
    add (block) {
      length.writeBigUInt64LE(BigInt(block.byteLength))
      hash.update(length).update(block)
    },
    finish: () => hash.digest('hex')
  }
}
