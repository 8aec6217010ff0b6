// A real node as a child process, on a data directory of its own.

import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export const BIN = process.env.TROUPE_BIN ?? new URL('../../../../target/debug/troupe', import.meta.url).pathname
const READY_MS = 30_000

export const PASSWORD = 'correct horse battery'

export async function freePort() {
  const server = createServer()
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address()
  await new Promise((done) => server.close(done))
  return port
}

export async function until(what, probe, ms = 20_000) {
  const end = Date.now() + ms
  for (;;) {
    const value = await probe()
    if (value) return value
    if (Date.now() > end) throw new Error(`not in ${ms} ms: ${what}`)
    await new Promise((done) => setTimeout(done, 50))
  }
}

export class Node {
  constructor() {
    this.dir = mkdtempSync(join(tmpdir(), 'troupe-e2e-'))
    this.data = join(this.dir, 'data')
    this.log = ''
    /** More for its environment, and for its command line. */
    this.env = {}
    this.args = []
  }

  async start(port = 0) {
    const ready = join(this.dir, `ready-${Date.now()}.json`)
    const args = ['up', '--http', `127.0.0.1:${port}`, '--data-dir', this.data, '--ready-file', ready, ...this.args]
    const child = spawn(BIN, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...this.env } })
    this.child = child
    this.exited = new Promise((done) => child.on('exit', done))
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data) => (this.log = (this.log + data).slice(-20_000)))
    }
    const found = await until(
      'the node is ready',
      () => {
        if (child.exitCode !== null) throw new Error(`the node ended:\n${this.log}`)
        try {
          return JSON.parse(readFileSync(ready, 'utf8'))
        } catch {
          return null
        }
      },
      READY_MS,
    )
    this.url = found.http.replace(/\/$/, '')
    this.setupToken ??= found.setup_token
    return this
  }

  async kill() {
    this.child.kill('SIGKILL')
    await this.exited
  }

  async close() {
    if (this.child && this.child.exitCode === null) await this.kill()
    // What an agent started may write for a moment longer.
    await until(`${this.dir} is gone`, () => {
      try {
        rmSync(this.dir, { recursive: true, force: true })
        return true
      } catch {
        return false
      }
    })
  }

  async call(path, options = {}) {
    const headers = { 'content-type': 'application/json', ...options.headers }
    if (this.token) headers.authorization = `Bearer ${this.token}`
    const response = await fetch(`${this.url}/api/v1${path}`, { ...options, headers })
    const text = await response.text()
    if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`)
    return text ? JSON.parse(text) : null
  }

  /** A session of the test's own, beside that of the browser. */
  async login(name = 'admin') {
    const body = JSON.stringify({ user_name: name, password: PASSWORD })
    this.token = (await this.call('/auth/login', { method: 'POST', body })).access_token
  }

  /** The administrator, without a browser. */
  async setup() {
    const body = JSON.stringify({ token: this.setupToken, user_name: 'admin', password: PASSWORD })
    this.token = (await this.call('/setup', { method: 'POST', body })).access_token
  }
}
