// Budgets of the Task page, measured on a real stream. CPU time, so that other work on the
// machine does not count; the limits are those of the console's design, without throttling.

import assert from 'node:assert/strict'
import { cpus } from 'node:os'
import { Model, long } from './model.mjs'
import { until } from './node.mjs'
import { traced } from './perf.mjs'
import { open, same, waitStatus, login } from './page.mjs'
import { openTask } from './reading.mjs'
import { ready } from './scenarios.mjs'

const LONG_TASK_MS = 50
/** A shared or busy machine takes more of its own time for the same work: over the budget is told, this fails. */
const LONG_TASK_FAILS_MS = 2 * LONG_TASK_MS
const OPEN_MS = 700
const FRAMES = 10_000
const NODES_MAX = 2_500

const machine = () => `${cpus().length} x ${cpus()[0].model.trim()}`

/** Waits for the first words, then traces until the answer is there. */
async function streamed(world, page, id) {
  await until('words come', () => page.evaluate(() => (window.troupe?.session?.store.messages()[1]?.view.content.length ?? 0) > 300))
  await page.evaluate(() => {
    window.shift = 0
    new PerformanceObserver((list) => list.getEntries().forEach((e) => e.hadRecentInput || (window.shift += e.value))).observe({ type: 'layout-shift' })
  })
  const began = Date.now()
  const trace = await traced(world.browser, page, () => waitStatus(page, 'COMPLETED', 180_000))
  const wall = Date.now() - began
  const counts = await same(page, world.node, id)
  const shift = await page.evaluate(() => window.shift)
  console.log(`      ${counts.applied} frames in ${(wall / 1000).toFixed(1)} s, longest task ${Math.round(trace.longest)} ms, ${Math.round((100 * trace.cpu) / wall)} % of a core, layout shift ${shift.toFixed(3)} (${machine()})`)
  if (trace.longest > LONG_TASK_MS) console.log(`      OVER ${LONG_TASK_MS} ms:\n      ${trace.worst.join('\n      ')}`)
  assert.ok(trace.longest <= LONG_TASK_FAILS_MS, `no task over ${LONG_TASK_MS} ms, and none at all over ${LONG_TASK_FAILS_MS}: ${Math.round(trace.longest)}`)
  return { ...trace, wall, shift }
}

export const speed = [
  {
    name: 'speed: Markdown at 200 pieces a second',
    alone: true,
    async run(world) {
      const page = await ready(world)
      const model = await new Model(() => ({ text: long(60_000), piece: 30, pace: 200 })).start()
      world.close.push(() => model.close())
      const id = await openTask(page, world.node, 'Go on', { force_override_bot_model: await model.join(world.node) })
      const { cpu, wall } = await streamed(world, page, id)
      assert.ok(cpu / wall < 0.4, 'less than 40 % of a core')
    },
  },
  {
    name: 'speed: Markdown as fast as it goes',
    alone: true,
    async run(world) {
      const page = await ready(world)
      const model = await new Model(() => ({ text: long(300_000), piece: 40, pace: 2_000 })).start()
      world.close.push(() => model.close())
      const id = await openTask(page, world.node, 'Go on', { force_override_bot_model: await model.join(world.node) })
      await streamed(world, page, id)
    },
  },
  {
    name: 'speed: 10,000 frames',
    alone: true,
    async run(world) {
      const { browser, node } = world
      const page = await ready(world)
      // Each piece of the demo model is a frame of its own at a pace that the journal keeps.
      const id = await openTask(page, node, '[[demo chunks=11000 size=24 pace=400 think=0]] go')
      await streamed(world, page, id)
      const heads = () => page.evaluate(() => window.troupe.session.counts.head)
      // How many pieces share a frame is up to the journal: on until there are enough.
      for (let turn = 2; (await heads()) < FRAMES; turn++) {
        assert.ok(turn < 9, 'the node makes frames')
        const message = '[[demo chunks=3000 size=24 pace=400 think=0]] more'
        await node.call(`/tasks/${id}/messages`, { method: 'POST', body: JSON.stringify({ message, client_message_id: crypto.randomUUID() }) })
        await until('it is answered', () => page.evaluate((n) => {
          const { store } = window.troupe.session
          return store.messages().length === 2 * n && store.task.status === 'COMPLETED'
        }, turn), 120_000)
      }
      const head = await heads()
      const other = world.track(await open(browser))
      const sockets = []
      other.on('websocket', (socket) => sockets.push(socket))
      await login(other, node)
      await other.locator(`a[href$="${id}"]`).first().waitFor()
      // The node's share, to tell it from the page's.
      let asked = 0
      let answered = 0
      sockets.forEach((socket) => {
        socket.on('framesent', ({ payload }) => String(payload).includes('"task:join"') && (asked = Date.now()))
        socket.on('framereceived', ({ payload }) => asked && !answered && /^43\/chat,/.test(String(payload)) && (answered = Date.now()))
      })
      await other.evaluate((task) => {
        const link = document.querySelector(`a[href$="${task}"]`)
        window.opened = new Promise((done) => {
          const began = performance.now()
          const look = () => {
            const region = document.querySelector('[role=region]')
            const end = region && region.scrollHeight - region.scrollTop - region.clientHeight < 60
            if (end && region.querySelector('[data-key$="$"]')) requestAnimationFrame(() => done(performance.now() - began))
            else requestAnimationFrame(look)
          }
          look()
        })
        link.click()
      }, id)
      const ms = await other.evaluate(() => window.opened)
      const nodes = await other.evaluate(() => document.querySelectorAll('*').length)
      const own = ms - (answered - asked)
      console.log(`      ${head} frames open at their end in ${Math.round(ms)} ms, ${answered - asked} of them in the node, with ${nodes} DOM nodes`)
      // A debug build of the node is not what is measured here.
      assert.ok(asked > 0 && answered > 0, 'the join was seen')
      assert.ok(own < OPEN_MS, `open in ${OPEN_MS} ms: ${Math.round(own)}`)
      assert.ok(nodes < NODES_MAX, `${nodes} DOM nodes`)
    },
  },
]
