// Answers as they are read: Markdown, code and its colours, many turns.

import assert from 'node:assert/strict'
import { Model, RICH, long } from './model.mjs'
import { until } from './node.mjs'
import { answer, composer, same, shot, waitStatus } from './page.mjs'
import { ready } from './scenarios.mjs'

/** Starts a Task beside the browser and opens it. */
export async function openTask(page, node, message, more = {}) {
  const body = JSON.stringify({ team_id: 'default/assistant', message, client_message_id: crypto.randomUUID(), ...more })
  const { task_id } = await node.call('/tasks', { method: 'POST', body })
  await page.goto(`${node.url}/tasks/${task_id}`)
  return task_id
}

const quick = (n) => `turn ${n} of many [[demo chunks=3 pace=0 think=0]]`

export const reading = [
  {
    name: 'code has colours and is copied as it was written',
    async run(world) {
      const page = await ready(world)
      const { node } = world
      await page.context().grantPermissions(['clipboard-read', 'clipboard-write'])
      const model = await new Model(() => ({ text: RICH.en, piece: 10, pace: 14 })).start()
      world.close.push(() => model.close())
      const id = await openTask(page, node, 'Show it', { force_override_bot_model: await model.join(node) })
      // While it is open it is plain, and no line moves when the colours come.
      const code = page.locator('figure', { hasText: 'resume(&self' }).locator('pre')
      await code.waitFor()
      await page.evaluate(() => {
        window.heights = []
        new MutationObserver(() => {
          const box = document.querySelector('figure pre')
          if (box) window.heights.push([box.textContent.replace(/\n$/, '').split('\n').length, box.getBoundingClientRect().height, !!box.querySelector('.hl-keyword')])
        }).observe(document.querySelector('[role=feed]'), { childList: true, subtree: true, characterData: true })
      })
      await waitStatus(page, 'COMPLETED')
      await page.locator('.hl-keyword').first().waitFor()
      const heights = await page.evaluate(() => window.heights)
      const byLines = new Map()
      for (const [lines, height] of heights) byLines.set(lines, [...(byLines.get(lines) ?? []), height])
      for (const [lines, all] of byLines) assert.equal(new Set(all).size, 1, `${lines} lines have one height: ${all}`)
      assert.ok(heights.some(([, , coloured]) => !coloured), `it was plain before: ${JSON.stringify(heights)}`)
      const source = /```rust\n([\s\S]*?)\n```/.exec(RICH.en)[1]
      assert.equal((await code.innerText()).trimEnd(), source)
      await page.locator('figure').first().getByRole('button', { name: 'Copy code' }).click()
      assert.equal(await page.evaluate(() => navigator.clipboard.readText()), source)
      // A selection over lines has them too.
      const selected = await code.evaluate((el) => {
        getSelection().selectAllChildren(el)
        return getSelection().toString()
      })
      assert.equal(selected.trimEnd(), source)
      await same(page, node, id)
      // A theme switch keeps the classes: nothing is coloured again.
      await page.emulateMedia({ colorScheme: 'dark' })
      await page.locator('.hl-keyword').first().waitFor()
    },
  },
  {
    name: 'formulas and diagrams',
    async run(world) {
      const page = await ready(world)
      const { node } = world
      const hostile = 'flowchart LR\n  A["<img src=x onerror=window.hit=1>"] --> B\n  click A "javascript:window.hit=1"'
      const text = [
        'It costs $5, not $6. Inline $$a^2 + b^2 = c^2$$ stands in a line.',
        '$$\n\\frac{1}{2}\n\n+ \\sqrt{x}\n$$',
        '```math\n\\int_0^1 x\\,dx\n```',
        '```mermaid\nflowchart LR\n  Person --> Node\n  Node --> Device\n```',
        '```mermaid\nnonsense\n  -->\n```',
        `\`\`\`mermaid\n${hostile}\n\`\`\``,
        '$$\\href{javascript:window.hit=1}{x}$$',
        'Done.',
      ].join('\n\n')
      const model = await new Model(() => ({ text, piece: 12, pace: 60 })).start()
      world.close.push(() => model.close())
      const id = await openTask(page, node, 'Draw it', { force_override_bot_model: await model.join(node) })
      await waitStatus(page, 'COMPLETED')
      const drawing = page.locator('[data-drawing] svg')
      await drawing.nth(1).waitFor()
      await page.locator('[data-maths] math').nth(2).waitFor()
      await page.getByText('It costs $5, not $6.').waitFor()
      assert.match(await drawing.first().innerHTML(), /Person[\s\S]*Device/)
      // What is none stays its source and says why.
      await page.getByText(/^It could not be drawn: /).waitFor()
      await page.locator('figure', { hasText: 'nonsense' }).waitFor()
      // A light and a dark one; the source on demand, as it was written.
      const light = await drawing.first().innerHTML()
      await shot(page, 'drawn-light')
      await page.emulateMedia({ colorScheme: 'dark' })
      await until('it is drawn anew', async () => (await drawing.first().innerHTML()) !== light)
      await shot(page, 'drawn-dark')
      await page.getByRole('button', { name: 'Show its source' }).first().click()
      assert.equal((await page.locator('figure pre').first().innerText()).trimEnd(), 'flowchart LR\n  Person --> Node\n  Node --> Device')
      await page.getByRole('button', { name: 'Show the diagram' }).first().click()
      assert.equal(await page.evaluate(() => window.hit), undefined, 'nothing of the writer runs')
      assert.equal(await page.locator('[data-drawing] a, [data-maths] a, [data-drawing] img').count(), 0)
      await same(page, node, id)
    },
  },
  {
    name: 'the live page reads as a fresh one',
    async run(world) {
      const page = await ready(world)
      const { node } = world
      const text = `${long(24_000)}\n\n| a | b |\n| - | - |\n${'| cell | cell |\n'.repeat(90)}\n${'no end of this line '.repeat(700)}\n\nThe end.`
      const model = await new Model(() => ({ text, piece: 17, pace: 900 })).start()
      world.close.push(() => model.close())
      const id = await openTask(page, node, 'Show it', { force_override_bot_model: await model.join(node) })
      await waitStatus(page, 'COMPLETED')
      const segments = () => page.evaluate(() => window.troupe.session.store.items.filter((i) => i.kind === 'text').length)
      let before = 0
      await until('all of it is shown', async () => before === (before = await segments()))
      await same(page, node, id)
      /** The text of the page, walked row by row. */
      const walk = async () => {
        const region = page.locator('[role=region]')
        await region.evaluate((el) => (el.scrollTop = 0))
        const rows = new Map()
        for (let i = 0; i < 400; i++) {
          for (const [key, found] of await page.locator('[data-key*="#"]').evaluateAll((all) => all.map((el) => [el.dataset.key, el.innerText]))) rows.set(key, found)
          const more = await region.evaluate((el) => {
            const end = el.scrollTop + el.clientHeight >= el.scrollHeight - 2
            el.scrollTop += el.clientHeight * 0.7
            return !end
          })
          await page.waitForTimeout(60)
          if (!more && (await page.evaluate(() => document.querySelector('[data-key$="$"]')))) break
        }
        const known = await page.evaluate(() => window.troupe.session.store.items.filter((i) => i.kind === 'text').length)
        assert.equal(rows.size, known, 'each row was there')
        return rows
      }
      const live = await walk()
      await page.reload()
      await waitStatus(page, 'COMPLETED')
      const fresh = await walk()
      assert.deepEqual([...live.keys()].sort(), [...fresh.keys()].sort())
      // Without blanks: where they stand depends on whether a code block has its colours yet.
      const words = (text) => text.replace(/\s+/g, '')
      for (const [key, found] of live) assert.equal(words(found), words(fresh.get(key)), key)
      assert.ok([...live.values()].some((x) => x.includes('The end.')))
    },
  },
  {
    name: 'many turns and the way through them',
    async run(world) {
      const page = await ready(world, { height: 700 })
      const { node } = world
      const id = await openTask(page, node, quick(1))
      await waitStatus(page, 'COMPLETED')
      for (let n = 2; n <= 26; n++) {
        await node.call(`/tasks/${id}/messages`, { method: 'POST', body: JSON.stringify({ message: quick(n), client_message_id: crypto.randomUUID() }) })
      }
      await until('all turns ran', () => page.evaluate(() => {
        const { store } = window.troupe.session
        return store.task.status === 'COMPLETED' && store.queue.length === 0 && store.messages().length === 52
      }), 120_000)
      await page.reload()
      await until('a join brings 20', () => page.evaluate(() => window.troupe?.session?.store.messages().length === 40))
      await page.getByRole('button', { name: 'Outline of the turns' }).click()
      const row = page.getByRole('button', { name: /turn 2 of many/ })
      await row.waitFor()
      assert.equal(await page.locator('[role=dialog] li').count(), 26)
      await row.click()
      await until('the turn is in view and has the focus', () =>
        page.evaluate(() => document.activeElement?.getAttribute('role') === 'article' && document.activeElement.textContent.includes('turn 2 of many')))
      assert.equal(await page.evaluate(() => window.troupe.session.store.messages().length), 52)
      await page.getByRole('button', { name: /^Latest/ }).click()
      await page.getByText(/turn 26 of many/).first().waitFor()
      await composer(page).fill('')
      assert.ok((await answer(page)).length > 0)
      await same(page, node, id).catch((error) => {
        // The node's own join has the last 20 turns alone.
        if (!/turn/.test(error.message)) throw error
      })
    },
  },
]
