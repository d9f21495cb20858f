'use strict'
// Ed25519 signatures at the edges (points of small order, points with a small-order part, numbers that are not
// reduced), with the verdict of libsodium in npm sodium-native on each. One `name key signature message verdict` a line:
//   node vectors/signatures.js > ../../crates/hypercore/tests/vectors/signatures.txt

const { createHash } = require('crypto')
const sodium = require('sodium-universal')

const P = 2n ** 255n - 19n
const L = 2n ** 252n + 27742317777372353535851937790883648493n
const mod = (a, m = P) => ((a % m) + m) % m
const power = (a, e) => {
  let r = 1n
  for (a = mod(a); e > 0n; e >>= 1n, a = mod(a * a)) if (e & 1n) r = mod(r * a)
  return r
}
const inverse = (a) => power(a, P - 2n)
const D = mod(-121665n * inverse(121666n))
const ROOT = power(2n, (P - 1n) / 4n)

const add = ([x1, y1], [x2, y2]) => {
  const t = mod(D * x1 * x2 * y1 * y2)
  return [mod((x1 * y2 + y1 * x2) * inverse(1n + t)), mod((y1 * y2 + x1 * x2) * inverse(1n - t))]
}
const times = (n, point) => {
  let r = [0n, 1n]
  for (; n > 0n; n >>= 1n, point = add(point, point)) if (n & 1n) r = add(r, point)
  return r
}
const lift = (y, odd) => {
  const u = mod(y * y - 1n)
  const v = mod(D * y * y + 1n)
  let x = mod(u * power(v, 3n) * power(u * power(v, 7n), (P - 5n) / 8n))
  if (mod(v * x * x) !== u) x = mod(x * ROOT)
  if (mod(v * x * x) !== u) return null
  return [(x & 1n) === (odd ? 1n : 0n) ? x : mod(-x), y]
}
const number = (n) => Buffer.from(n.toString(16).padStart(64, '0'), 'hex').reverse()
const encode = ([x, y]) => number(y | ((x & 1n) << 255n))
const digest = (...parts) => {
  const hash = createHash('sha512').update(Buffer.concat(parts)).digest().reverse()
  return mod(BigInt('0x' + hash.toString('hex')), L)
}

const BASE = lift(mod(4n * inverse(5n)), false)
const torsion = (() => {
  for (let y = 2n; ; y++) {
    const point = lift(y, false)
    const t = point && times(L, point)
    if (t && times(4n, t)[1] !== 1n) return Array.from({ length: 8 }, (_, i) => times(BigInt(i), t))
  }
})()

function print (name, key, R, s, message) {
  const signature = Buffer.concat([R, number(s)])
  const verdict = sodium.crypto_sign_verify_detached(signature, message, key)
  console.log([name, ...[key, signature, message].map((b) => b.toString('hex')), verdict].join(' '))
}

const a = 123456789123456789n ** 3n % L
const k = 987654321987654321n ** 3n % L
const A = times(a, BASE)
const R = times(k, BASE)
const messages = Array.from({ length: 8 }, (_, i) => Buffer.from('message ' + i))
const s = (key, r, message) => mod(k + digest(r, key, message) * a, L)

const key = encode(A)
const r = encode(R)
print('honest', key, r, s(key, r, messages[0]), messages[0])
print('not-reduced', key, r, s(key, r, messages[0]) + L, messages[0])
print('other-message', key, r, s(key, r, messages[0]), messages[1])
torsion.forEach((t, i) => {
  const mixed = encode(add(A, t))
  const other = encode(add(R, t))
  print('R+T' + i, key, other, s(key, other, messages[0]), messages[0])
  for (const message of messages) print('A+T' + i, mixed, r, s(mixed, r, message), message)
  for (const message of messages.slice(0, 4)) print('A+T' + i + ',R+T' + i, mixed, other, s(mixed, other, message), message)
  const small = encode(t)
  print('R=T' + i, key, small, mod(digest(small, key, messages[0]) * a, L), messages[0])
  for (const message of messages.slice(0, 4)) print('A=T' + i, small, r, k, message)
})
// encodings of y that are not reduced, and of x = 0 with a sign
for (const y of [P, P + 1n, 1n, P - 1n]) {
  const odd = number(y | (1n << 255n))
  for (const point of y < P ? [odd] : [number(y), odd]) {
    print('A=bent', point, r, k, messages[0])
    print('R=bent', key, point, mod(digest(point, key, messages[0]) * a, L), messages[0])
  }
}
