'use strict'
// Chromium without a window, driven line by line over its DevTools pipe, and a server for the pages.
//
//   node browser.js CHROMIUM PROFILE PAGES     the program, a scratch folder for it, the folder that is served
//
// Only addresses of this machine are reached: every name but `localhost` is unknown, apart from `evil.example`, which
// leads to 127.0.0.1 as a name of somebody who means ill might.

const { spawn } = require('child_process')
const fs = require('fs')
const http = require('http')
const path = require('path')
const { serve } = require('./lines.js')

const [program, profile, pages] = process.argv.slice(2)
const KINDS = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8' }

const server = http.createServer((request, response) => {
  const name = new URL(request.url, 'http://x').pathname.slice(1) || 'index.html'
  const kind = KINDS[path.extname(name)]
  fs.readFile(path.join(pages, path.basename(name)), (error, bytes) => {
    if (error || !kind) return response.writeHead(404).end()
    response.writeHead(200, { 'content-type': kind }).end(bytes)
  })
})

const browser = spawn(program, [
  '--headless=new',
  '--no-sandbox', // it does not run as root otherwise
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-extensions',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-default-apps',
  '--disable-sync',
  '--metrics-recording-only',
  '--no-first-run',
  '--no-default-browser-check',
  '--no-proxy-server',
  '--host-resolver-rules=MAP evil.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1',
  '--window-size=1000,900',
  '--user-data-dir=' + profile,
  '--remote-debugging-pipe',
  'about:blank'
], {
  stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
  env: { ...process.env, HOME: profile, XDG_CONFIG_HOME: profile, XDG_CACHE_HOME: profile }
})

// The last of what it says on standard error, for when it fails.
let complaints = ''
browser.stderr.on('data', (data) => { complaints = (complaints + data).slice(-4000) })

const [, , , commands, answers] = browser.stdio
const calls = new Map()
const said = []
let ended = null
let lastCall = 0
let received = ''

commands.on('error', () => {})
answers.setEncoding('utf8')
answers.on('data', (data) => {
  received += data
  for (let end; (end = received.indexOf('\0')) >= 0; received = received.slice(end + 1)) {
    const message = JSON.parse(received.slice(0, end))
    if (message.id) {
      const { resolve, reject } = calls.get(message.id)
      calls.delete(message.id)
      if (message.error) reject(new Error(message.error.message))
      else resolve(message.result)
    } else if (message.method === 'Runtime.exceptionThrown') {
      const { text, exception } = message.params.exceptionDetails
      said.push(text + ' ' + (exception?.description ?? ''))
    } else if (message.method === 'Runtime.consoleAPICalled' && message.params.type === 'error') {
      said.push(message.params.args.map((arg) => arg.description ?? arg.value).join(' '))
    }
  }
})
browser.on('error', (error) => end(error))
browser.on('exit', (code, signal) => end(new Error(`Chromium ended (${code ?? signal}):\n${complaints}`)))

function end (error) {
  ended = error
  for (const { reject } of calls.values()) reject(error)
  calls.clear()
}

function call (method, params = {}, sessionId) {
  if (ended) throw ended
  const id = ++lastCall
  commands.write(JSON.stringify({ id, method, params, sessionId }) + '\0')
  return new Promise((resolve, reject) => calls.set(id, { resolve, reject }))
}

let page = null

async function evaluate (expression) {
  const { result, exceptionDetails } = await call('Runtime.evaluate', {
    expression, awaitPromise: true, returnByValue: true
  }, page)
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text)
  return result.value
}

server.listen(0, '127.0.0.1', () => serve({
  // Opens a page in a new tab, and answers once its scripts have run.
  page: async ({ host = '127.0.0.1', path = '' }) => {
    if (page) await call('Target.closeTarget', { targetId: page.targetId }).catch(() => {})
    const { targetId } = await call('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await call('Target.attachToTarget', { targetId, flatten: true })
    page = sessionId
    await call('Runtime.enable', {}, page)
    await call('Page.enable', {}, page)
    const { errorText } = await call('Page.navigate', {
      url: `http://${host}:${server.address().port}/${path}`
    }, page)
    if (errorText) throw new Error(errorText)
    await evaluate('new Promise((resolve) => document.readyState === "complete" ? resolve() : addEventListener("load", resolve))')
  },
  // An expression's value, or that of its promise.
  evaluate: ({ expression }) => evaluate(expression),
  // Answers when the expression has become true.
  until: ({ expression }) => evaluate(`new Promise((resolve) => {
    const look = () => (${expression}) ? resolve() : setTimeout(look, 20)
    look()
  })`),
  screenshot: async ({ file }) => {
    const { data } = await call('Page.captureScreenshot', { format: 'png' }, page)
    fs.writeFileSync(file, Buffer.from(data, 'base64'))
  },
  // What pages have complained of.
  complaints: () => said,
  close: async () => {
    const gone = new Promise((resolve) => browser.once('exit', resolve))
    if (ended) return
    await call('Browser.close').catch(() => {})
    await gone
  }
}))

// Whoever drives us may die at any time: the pipe's end takes the browser with it, most of the time.
process.on('exit', () => { browser.kill('SIGKILL') })
