'use strict'
// Our daemon (or a node of our DHT) as a child process. HYPERSPACE_SERVER names the program.

const { spawn } = require('child_process')
const readline = require('readline')

const running = new Set()
// First of all: the exit handler of tape exits at once.
process.prependListener('exit', () => { for (const child of running) child.kill('SIGKILL') })

// Resolves to { addresses, end } once the daemon has printed so many `Listening ...` lines.
module.exports = async function daemon (args, lines) {
  const child = spawn(process.env.HYPERSPACE_SERVER, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  running.add(child)
  const ended = new Promise((resolve) => child.once('close', (code, signal) => {
    running.delete(child)
    resolve(signal || code)
  }))
  const addresses = []
  const output = readline.createInterface({ input: child.stdout })
  await new Promise((resolve, reject) => {
    child.once('error', reject)
    ended.then((how) => reject(new Error('The daemon ended: ' + how + ' (' + args.join(' ') + ')')))
    output.on('line', (line) => {
      addresses.push(line.slice(line.lastIndexOf(' ') + 1))
      if (addresses.length === lines) resolve()
    })
  })
  return {
    addresses,
    async end () {
      child.kill('SIGTERM')
      const how = await ended
      if (how !== 0) throw new Error('The daemon ended badly: ' + how)
    }
  }
}
