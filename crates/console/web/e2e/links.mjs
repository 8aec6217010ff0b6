// The way between browser and node: frames lost, doubled and late, a viewer sent out of the room,
// tokens that end.

import assert from 'node:assert/strict'
import { until } from './node.mjs'
import { answer, composer, login, newTask, open, same, waitStatus } from './page.mjs'
import { begun, slow } from './scenarios.mjs'
import { PASSWORD } from './node.mjs'

/** A page whose frames pass through the test's hands: `pass(message)` gives what goes on. */
async function through({ browser, node, track }, wire) {
  await node.start()
  await node.setup()
  const page = track(await open(browser))
  await page.routeWebSocket(/socket\.io/, (socket) => {
    const server = socket.connectToServer()
    wire.tell = (message) => socket.send(message)
    server.onMessage((message) => {
      for (const one of wire.pass?.(message) ?? [message]) socket.send(one)
    })
  })
  await login(page, node)
  return page
}

const isFrame = (message) => typeof message === 'string' && message.startsWith('42/chat,["chat:chunk"')

export const links = [
  {
    name: 'frames lost, doubled and late',
    async run(world) {
      const wire = {}
      const page = await through(world, wire)
      let n = 0
      let held = []
      const met = { lost: 0, doubled: 0, late: 0 }
      wire.pass = (message) => {
        if (!isFrame(message)) return [message]
        n++
        if (n % 23 === 5) return (met.lost++, [])
        if (n % 17 === 3) return (met.doubled++, [message, message])
        if (n % 11 === 7) return (met.late++, held.push(message), [])
        const out = [message, ...held]
        held = []
        return out
      }
      const id = await newTask(page, world.node, slow(240, 60))
      await waitStatus(page, 'COMPLETED')
      const counts = await same(page, world.node, id)
      assert.ok(met.lost > 3 && met.doubled > 3 && met.late > 3, JSON.stringify(met))
      assert.ok(counts.dropped >= met.doubled, 'doubles were dropped')
      assert.ok(counts.resumes >= 1 && counts.rejoins <= 2, `gaps were closed by resuming: ${JSON.stringify(counts)}`)
    },
  },
  {
    name: 'sent out of the room',
    async run(world) {
      const wire = {}
      const page = await through(world, wire)
      const id = await newTask(page, world.node, slow(300))
      await begun(page)
      await composer(page).fill('stays')
      const joins = () => page.evaluate(() => window.troupe.session.counts.joins)
      const before = await joins()
      // From now on the room is silent, as for a viewer who was too slow.
      let out = true
      wire.pass = (message) => (out && isFrame(message) ? [] : [message])
      const head = (await page.evaluate(() => window.troupe.session.counts)).head
      wire.tell(`42/chat,${JSON.stringify(['task:resync', { task_id: id, head }])}`)
      await until('it joins anew', async () => (await joins()) > before)
      out = false
      const length = (await answer(page)).length
      await until('it streams again', async () => (await answer(page)).length > length + 100)
      assert.equal(await composer(page).inputValue(), 'stays')
      await waitStatus(page, 'COMPLETED')
      await same(page, world.node, id)
    },
  },
  {
    name: 'the token ends on an open page',
    async run({ browser, node, track }) {
      await node.start()
      await node.setup()
      const page = track(await open(browser))
      await page.clock.install()
      await login(page, node)
      const id = await newTask(page, node, slow(900))
      await begun(page)
      await composer(page).fill('half a thought')
      // The access token holds for 15 minutes: a new one is fetched before, unseen.
      const renewed = page.waitForResponse((r) => r.url().endsWith('/auth/refresh') && r.ok())
      await page.clock.fastForward('14:30')
      await renewed
      const length = (await answer(page)).length
      await until('it goes on', async () => (await answer(page)).length > length + 100)
      assert.equal((await same(page, node, id).catch(() => ({ rejoins: 0 }))).rejoins, 0)
      assert.equal(await composer(page).inputValue(), 'half a thought')
      // The session itself ends: somebody changed the password elsewhere.
      const next = `${PASSWORD}, changed`
      await node.call('/users/me', { method: 'PATCH', body: JSON.stringify({ current_password: PASSWORD, password: next }) })
      await page.waitForURL(/\/login\?next=/, { timeout: 30_000 })
      await page.locator('input[name=username]').fill('admin')
      await page.locator('input[name=password]').fill(next)
      await page.locator('button[type=submit]').click()
      await page.waitForURL(new RegExp(`/tasks/${id}`))
      await until('the draft is there', async () => (await composer(page).inputValue()) === 'half a thought')
      await until('it is live again', () => page.evaluate(() => window.troupe.session.phase === 'live'))
      await node.call(`/tasks/${id}/cancel`, { method: 'POST', body: '{}' }).catch(() => undefined)
    },
  },
]
