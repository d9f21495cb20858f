'use strict'
// How often each networked test of npm hyperspace fails, as it was published and with nothing slowed (races.js): on the
// Node server and on our daemon, by turns, each test in a process and a network namespace of its own. As root:
//
//   HYPERSPACE_SERVER=target/release/hyperspace-server node repeat.js [TIMES] [PART OF A NAME]

const { spawn } = require('child_process')
const fs = require('fs')
const os = require('os')
const path = require('path')

const FILE = 'hyperspace/test/networked.js'
const ADDRESS = '10.9.0.1'
// What takes longer is waiting for something that does not come.
const LIMIT = 60000
const network = `ip link set lo up && ip addr add ${ADDRESS}/32 dev lo && exec "$@"`

const [times = '10', part = ''] = process.argv.slice(2)
const text = fs.readFileSync(path.join(__dirname, 'node_modules', FILE), 'utf8')
const tests = [...text.matchAll(/^test\('(.*)',/gm)].map(([, name]) => name).filter((name) => name.includes(part))

function run (name, kind) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'repeat-'))
  const suite = ['node', path.join(__dirname, 'suite.js'), ...kind, '--only=' + name, FILE]
  const child = spawn('unshare', ['-n', '--pid', '--fork', '--kill-child', 'sh', '-c', network, 'sh', ...suite], {
    env: { ...process.env, TMPDIR: folder, HYPERSPACE_SLOWNESS: '0' },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  let said = ''
  for (const output of [child.stdout, child.stderr]) output.on('data', (data) => { said += data })
  const timer = setTimeout(() => {
    said += '\nnot ok: nothing came\n'
    child.kill('SIGKILL')
  }, LIMIT)
  return new Promise((resolve) => child.once('close', (code) => {
    clearTimeout(timer)
    fs.rmSync(folder, { recursive: true, force: true })
    const passed = code === 0 && /^1\.\.[1-9]/m.test(said) && !/^not ok/m.test(said)
    resolve(passed ? null : (said.match(/^not ok.*/m) || [said])[0])
  }))
}

async function main () {
  const failures = tests.map((name) => ({ name, node: [], ours: [] }))
  for (let i = 0; i < Number(times); i++) {
    for (const failure of failures) {
      for (const [kind, options] of [['node', ['--node=' + ADDRESS]], ['ours', []]]) {
        const why = await run(failure.name, options)
        if (why) failure[kind].push(why)
        if (why) console.error(`${kind}: ${failure.name}: ${why}`)
      }
    }
  }
  console.log(`| test | Node server, of ${times} | this daemon, of ${times} |\n|---|---|---|`)
  for (const { name, node, ours } of failures) console.log(`| ${name} | ${node.length} | ${ours.length} |`)
}

main()
