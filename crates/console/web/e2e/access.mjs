// The console without a mouse, and what is said to those who do not see it.

import assert from 'node:assert/strict'
import { PASSWORD, until } from './node.mjs'
import { accessible, composer, open, same, status, waitStatus } from './page.mjs'
import { begun, ready, slow } from './scenarios.mjs'

const focus = (page) => page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent?.trim() ?? '')

/** Waits for the focus; a failure says where it is instead. */
async function focused(page, what, name) {
  let at = ''
  const there = until(`the focus on ${what}`, async () => name.test((at = await focus(page))))
  await there.catch((error) => {
    throw new Error(`${error.message}, it is on "${at.slice(0, 80)}"`)
  })
}

/** Presses Tab until the focus is on something with that name. */
async function tabTo(page, name, most = 40) {
  for (let i = 0; i < most; i++) {
    await page.keyboard.press('Tab')
    const at = await focus(page)
    if (name.test(at)) return at
  }
  throw new Error(`no Tab leads to ${name}, the focus is on ${await focus(page)}`)
}

export const access = [
  {
    name: 'keys alone: setup, New Task, stream, stop, retry',
    async run({ browser, node, track }) {
      await node.start()
      const page = track(await open(browser))
      await page.goto(`${node.url}/setup#${node.setupToken}`)
      await page.locator('input[name=password]').waitFor()
      await page.keyboard.type(PASSWORD)
      await page.keyboard.press('Tab')
      await page.keyboard.type(PASSWORD)
      await page.keyboard.press('Enter')
      await page.waitForURL(/\/tasks\/new$/)
      await node.login()
      // The field has the focus; the Team is chosen by arrows.
      await page.getByRole('radio').first().waitFor()
      await focused(page, 'the field', /should be done/)
      await page.keyboard.type(slow(400))
      await tabTo(page, /^Start$/)
      await page.keyboard.press('Shift+Tab')
      await page.keyboard.press('Enter')
      await page.waitForURL(/\/tasks\/tsk_/)
      const id = new URL(page.url()).pathname.split('/')[2]
      await begun(page)
      // Out of the field nothing stops; the key for it does.
      await page.keyboard.press('m')
      await focused(page, 'the field', /Write to the Team/)
      await page.keyboard.press('Escape')
      assert.equal(await status(page), 'RUNNING')
      await page.keyboard.press('Control+.')
      await waitStatus(page, 'CANCELLED')
      // J and K go through the entries, O opens what has the focus.
      await page.locator('[role=region]').focus()
      for (let i = 0; i < 6; i++) await page.keyboard.press('k')
      await focused(page, 'what was asked', /Count for me/)
      await page.keyboard.press('j')
      await page.keyboard.press('j')
      // Output that was under way when it was stopped is folded, before the thought.
      await focused(page, 'what came late or the thought', /Interrupted|Thought/)
      if (/Interrupted/.test(await focus(page))) await page.keyboard.press('j')
      await focused(page, 'the thought', /Thought/)
      await page.keyboard.press('o')
      await page.locator('[data-index] button[aria-expanded=true]').waitFor()
      // Retry by its button, then by its key.
      await page.locator('[role=region]').focus()
      await tabTo(page, /^Retry$/)
      await page.keyboard.press('Enter')
      await until('attempt 2', () => page.evaluate(() => window.troupe.session.store.messages()[1].view.attempts.length === 2))
      await begun(page)
      await page.keyboard.press('Control+.')
      await waitStatus(page, 'CANCELLED')
      await page.evaluate(() => document.activeElement?.blur())
      await page.keyboard.press('r')
      await until('attempt 3', () => page.evaluate(() => window.troupe.session.store.messages()[1].view.attempts.length === 3))
      await page.keyboard.press('Control+.')
      await waitStatus(page, 'CANCELLED')
      await same(page, node, id)
      // Two keys in a row go to the list, with a hint in between.
      await page.keyboard.press('g')
      await page.getByRole('status').filter({ hasText: 'Tasks' }).waitFor()
      await page.keyboard.press('t')
      await page.waitForURL(/\/tasks$/)
      await focused(page, 'the heading', /^Tasks$/)
      await page.locator('a[data-row]').first().waitFor()
      await page.keyboard.press('j')
      await page.keyboard.press('Enter')
      await page.waitForURL(new RegExp(id))
    },
  },
  {
    name: 'palette and choices',
    async run(world) {
      const page = await ready(world)
      const { node } = world
      for (const message of ['Say something about tides', '潮汐是什么']) {
        await node.call('/tasks', { method: 'POST', body: JSON.stringify({ team_id: 'default/assistant', message, client_message_id: crypto.randomUUID() }) })
      }
      await page.keyboard.press('Control+k')
      await page.keyboard.type('tides')
      await page.getByRole('option', { name: /Say something about tides/ }).waitFor()
      await accessible(page, 'palette')
      await page.keyboard.press('Enter')
      await page.waitForURL(/\/tasks\/tsk_/)
      await waitStatus(page, 'COMPLETED')
      // It acts on the page that is open.
      await page.keyboard.press('Control+k')
      await page.keyboard.type('>write')
      await page.getByRole('option', { name: /Write a message/ }).waitFor()
      await page.keyboard.press('Enter')
      await focused(page, 'the field', /Write to the Team/)
      // Single letters can be switched off.
      await page.keyboard.press('Escape')
      await page.keyboard.press('?')
      await page.getByRole('checkbox', { name: /Single letters/ }).click()
      await page.keyboard.press('Escape')
      await page.locator('[role=dialog]').waitFor({ state: 'detached' })
      await page.keyboard.press('c')
      await page.keyboard.press('m')
      assert.match(page.url(), /\/tasks\/tsk_/)
      assert.doesNotMatch(await focus(page), /Write to the Team/)
      await page.getByRole('button', { name: 'Account and appearance' }).click()
      await page.getByRole('menuitem', { name: 'Keyboard' }).click()
      await page.getByRole('checkbox', { name: /Ctrl\+Enter sends/ }).click()
      await page.keyboard.press('Escape')
      await page.locator('[role=dialog]').waitFor({ state: 'detached' })
      await composer(page).fill('one line')
      await composer(page).press('Enter')
      assert.equal(await composer(page).inputValue(), 'one line\n')
      await composer(page).press('Control+Enter')
      await until('it was sent', async () => (await composer(page).inputValue()) === '')
      await waitStatus(page, 'COMPLETED')
      // Chinese words are found by their initials.
      await page.evaluate(() => localStorage.setItem('troupe.lang', 'zh'))
      await page.reload()
      await page.locator('h1').waitFor()
      await page.keyboard.press('Control+k')
      await page.keyboard.type('xjrw')
      await page.getByRole('option', { name: '新建任务' }).waitFor()
    },
  },
  {
    name: 'what is said aloud',
    async run(world) {
      const page = await ready(world)
      await page.locator('nav').first().waitFor()
      await page.evaluate(() => {
        window.said = []
        const region = [...document.querySelectorAll('[aria-live=polite]')].at(-1)
        new MutationObserver(() => region.textContent && window.said.push(region.textContent)).observe(region, { childList: true, characterData: true, subtree: true })
      })
      await page.keyboard.press('c')
      await page.getByRole('radio', { name: /^Assistant/ }).check()
      await page.locator('main textarea').fill(slow(60))
      await page.locator('main textarea').press('Enter')
      await page.waitForURL(/\/tasks\/tsk_/)
      await waitStatus(page, 'COMPLETED')
      await until('its end was said', () => page.evaluate(() => window.said.some((s) => /is done, \d+ words/.test(s))))
      const said = await page.evaluate(() => window.said)
      assert.ok(said.length <= 3, `only boundaries are said: ${said.join(' / ')}`)
    },
  },
]
