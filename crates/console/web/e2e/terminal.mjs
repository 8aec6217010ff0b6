// One Task in the browser and at a terminal at once, and a node that is killed under both.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { BIN, freePort, PASSWORD, until } from './node.mjs'
import { answer, same, waitStatus } from './page.mjs'
import { begun, ready, slow } from './scenarios.mjs'

/** `troupe ..` of the person; what it has said so far, and how it ends. */
function terminal(node, args, input = '') {
  const env = { ...process.env, HOME: node.dir, TROUPE_CONTEXTS: join(node.dir, 'contexts.toml') }
  const child = spawn(BIN, args, { env })
  const said = { out: '', err: '', code: undefined }
  child.stdout.setEncoding('utf8').on('data', (text) => (said.out += text))
  child.stderr.setEncoding('utf8').on('data', (text) => (said.err += text))
  said.ended = new Promise((done) => child.on('close', done)).then((code) => (said.code = code))
  child.stdin.end(input)
  said.kill = () => child.kill('SIGKILL')
  return said
}

async function ends(said, code) {
  await until('the command ends', () => said.code !== undefined, 60_000)
  assert.equal(said.code, code, said.err)
  return said.out
}

export const terminals = [
  {
    name: 'browser and terminal at once, through a kill',
    async run(world) {
      const port = await freePort()
      const page = await ready(world, { port })
      const { node, close } = world
      const login = terminal(node, ['login', node.url, '--user', 'admin', '--password-stdin'], `${PASSWORD}\n`)
      await ends(login, 0)
      const run = terminal(node, ['run', slow(300), '--team', 'plan-then-build'])
      close.push(async () => run.kill())
      const id = await until('the Task is in the list', async () => {
        if (run.code !== undefined) throw new Error(`it ended: ${run.err}`)
        return (await node.call('/tasks')).items[0]?.id
      })
      await page.goto(`${node.url}/tasks/${id}`)
      await begun(page)
      await until('the terminal shows it', () => run.out.length > 60)

      await node.kill()
      await until('the terminal says so', () => run.err.includes('the task goes on, trying again'))
      await page.getByText(/Connection lost .* ago/).waitFor({ timeout: 15_000 })
      const before = { browser: await answer(page), terminal: run.out }
      assert.ok(Math.min(before.browser.length, before.terminal.length) > 60)
      await node.start(port)
      await page.getByText(/Nothing lost: resumed at seq/).waitFor({ timeout: 20_000 })
      await until('the terminal is back', () => /nothing lost: resumed at/.test(run.err))

      // The first stage ends; who watches is told to pass its gate.
      const out = await ends(run, 12)
      assert.match(run.err, /attempt 2/)
      assert.match(run.err, new RegExp(`troupe confirm ${id}`))
      await waitStatus(page, 'PENDING_CONFIRMATION')
      await page.getByText('Interrupted attempt 1').waitFor()
      const rows = await page.evaluate(() =>
        window.troupe.session.store.messages().map((row) => ({
          content: row.view.content,
          interrupted: row.view.attempts.flatMap((a) => a.interrupted ?? []).map((b) => b.content ?? '').join(''),
        })),
      )
      const cut = rows.find((row) => row.interrupted !== '')
      assert.ok(cut.interrupted.includes(before.browser), 'what the browser showed is there')
      assert.ok(out.startsWith(before.terminal), 'what the terminal showed stays')
      assert.ok(out.includes(cut.content.trim()), 'the attempt that follows, whole')

      await node.login()
      await ends(terminal(node, ['confirm', id]), 0)
      await waitStatus(page, 'COMPLETED')
      await same(page, node, id)
    },
  },
]
