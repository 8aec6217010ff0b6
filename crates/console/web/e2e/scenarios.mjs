import assert from 'node:assert/strict'
import { freePort, PASSWORD, until } from './node.mjs'
import { answer, composer, login, newTask, open, same, shot, waitStatus } from './page.mjs'

/** Prose, Chinese and code from the demo model; or so many pieces at a pace. */
export const slow = (chunks, pace = 40) => `[[demo chunks=${chunks} size=14 pace=${pace} think=4]] Count for me`

export async function ready({ browser, node, track }, options) {
  await node.start(options?.port ?? 0)
  await node.setup()
  const page = track(await open(browser, options))
  await login(page, node)
  return page
}

export const begun = (page) => until('text streams', async () => (await answer(page)).length > 60)

export const scenarios = [
  {
    name: 'setup and login',
    async run({ browser, node, track }) {
      await node.start()
      const page = track(await open(browser))
      await page.goto(`${node.url}/setup#${node.setupToken}`)
      await page.locator('input[name=password]').fill(PASSWORD)
      await page.locator('input[name=password-again]').fill('another one')
      await page.locator('button[type=submit]').click()
      await page.getByText('The two passwords differ.').waitFor()
      await page.locator('input[name=password-again]').fill(PASSWORD)
      await page.locator('button[type=submit]').click()
      await page.waitForURL(/\/tasks\/new$/)
      assert.ok(!page.url().includes(node.setupToken), 'the token left the address')
      await page.getByText('The demo model answers').waitFor()
      // A reload goes on with the cookie and the proof.
      await page.reload()
      await page.getByRole('heading', { name: 'New Task' }).waitFor()
      await page.getByRole('button', { name: 'Account and appearance' }).click()
      await page.getByRole('menuitem', { name: 'Log out' }).click()
      await page.waitForURL(/\/login/)
      // The address is kept over the login.
      await page.goto(`${node.url}/tasks?show=done`)
      await page.waitForURL(/\/login\?next=/)
      await page.locator('input[name=username]').fill('admin')
      await page.locator('input[name=password]').fill('wrong password')
      await page.locator('button[type=submit]').click()
      await page.getByText('Name or password is wrong.').waitFor()
      await page.locator('input[name=password]').fill(PASSWORD)
      await page.locator('button[type=submit]').click()
      await page.waitForURL(/\/tasks\?show=done$/)
      // The link works once.
      const other = track(await open(browser))
      await other.goto(`${node.url}/setup?token=${node.setupToken}`)
      await other.locator('input[name=password]').fill(PASSWORD)
      await other.locator('input[name=password-again]').fill(PASSWORD)
      await other.locator('button[type=submit]').click()
      await other.getByText('used or has expired').waitFor()
    },
  },
  {
    name: 'send and stream',
    async run(world) {
      const page = await ready(world)
      const id = await newTask(page, world.node, 'Explain what a journal is, briefly')
      await waitStatus(page, 'COMPLETED')
      assert.ok((await answer(page)).length > 20)
      const counts = await same(page, world.node, id)
      assert.equal(counts.rejoins, 0)
      // A further message in Chinese, with a line break and an emoji.
      await composer(page).fill('再解释一次')
      await composer(page).press('Shift+Enter')
      await composer(page).pressSequentially('谢谢 👩‍👩‍👧‍👦')
      await composer(page).press('Enter')
      await until('the second turn', async () => (await page.evaluate(() => window.troupe.session.store.messages().length)) >= 4)
      await waitStatus(page, 'COMPLETED')
      await page.getByText('谢谢 👩‍👩‍👧‍👦').first().waitFor()
      await same(page, world.node, id)
      await page.goto(`${world.node.url}/tasks`)
      await page.getByRole('link', { name: /Explain what a journal is/ }).waitFor()
    },
  },
  {
    name: 'reload in mid stream',
    async run(world) {
      const page = await ready(world)
      const id = await newTask(page, world.node, slow(160))
      await begun(page)
      await composer(page).fill('a draft that stays')
      await until('the draft is stored', () =>
        page.evaluate(() => Object.keys(localStorage).some((k) => k.startsWith('troupe.drafts.') && localStorage[k].includes('a draft that stays'))),
      )
      await page.reload()
      await begun(page)
      assert.equal(await composer(page).inputValue(), 'a draft that stays')
      await waitStatus(page, 'COMPLETED')
      await same(page, world.node, id)
    },
  },
  {
    name: 'kill and restart in mid answer',
    async run(world) {
      const port = await freePort()
      const page = await ready(world, { port })
      const { node } = world
      const id = await newTask(page, node, slow(400))
      await begun(page)
      const before = await answer(page)
      await node.kill()
      await page.getByText(/Connection lost .* ago\. Agents keep working, your draft is kept\./).waitFor({ timeout: 15_000 })
      await composer(page).fill('sent while offline')
      await composer(page).press('Enter')
      await page.getByText('Goes out when connected').waitFor()
      await node.start(port)
      await page.getByText(/Nothing lost: resumed at seq [\d,]+ \(\+[\d,]+\)/).waitFor({ timeout: 20_000 })
      await node.login()
      await until('the next attempt', () =>
        page.evaluate(() => window.troupe.session.store.messages().some((r) => r.view.attempts.length > 1)),
      )
      await page.getByText('Interrupted attempt 1').waitFor()
      const interrupted = await page.evaluate(() =>
        window.troupe.session.store.messages().flatMap((r) => r.view.attempts.flatMap((a) => a.interrupted ?? [])).map((b) => b.content ?? '').join(''),
      )
      assert.ok(interrupted.includes(before), 'all that was seen is still there')
      await until('the offline message is answered', () =>
        page.evaluate(() => {
          const { store } = window.troupe.session
          const asked = store.messages().filter((r) => r.view.kind === 'user')
          return asked.length === 2 && asked[1].view.content === 'sent while offline' && store.task.status === 'COMPLETED'
        }), 90_000)
      const counts = await same(page, node, id)
      assert.equal(counts.rejoins, 0, 'a resume was enough')
    },
  },
  {
    name: 'gate of a pipeline',
    async run(world) {
      const page = await ready(world)
      const id = await newTask(page, world.node, 'Write a tiny guide to tides', /^Plan, then build/)
      await waitStatus(page, 'PENDING_CONFIRMATION')
      await page.getByRole('button', { name: 'Ask for changes' }).click()
      assert.ok(await composer(page).evaluate((el) => el === document.activeElement))
      await page.keyboard.type('Make it shorter')
      await page.keyboard.press('Enter')
      await until('the stage ran again', () =>
        page.evaluate(() => window.troupe.session.store.messages().filter((r) => r.view.kind === 'user').length === 2))
      await waitStatus(page, 'PENDING_CONFIRMATION')
      await page.reload()
      const field = page.getByLabel('Hand-off text')
      await field.waitFor()
      await field.fill(`${await field.inputValue()}\n\nAnd mention the moon.`)
      await page.getByRole('button', { name: 'Confirm', exact: true }).click()
      await waitStatus(page, 'COMPLETED')
      const handoff = await page.evaluate(() => window.troupe.session.store.messages().findLast((r) => r.view.kind === 'handoff')?.view.content)
      assert.match(handoff, /And mention the moon\./)
      await page.getByRole('list').filter({ hasText: 'passed' }).first().waitFor()
      const first = page.getByRole('navigation', { name: 'Stages' }).getByRole('button').first()
      const text = await first.innerText()
      await first.click()
      await until('the stage has the focus', () =>
        page.evaluate((name) => name.includes(document.activeElement?.querySelector('h2')?.textContent ?? '-'), text))
      await same(page, world.node, id)
    },
  },
  {
    name: 'stop, retry, queue, edit',
    async run(world) {
      const page = await ready(world)
      const { node } = world
      const id = await newTask(page, node, slow(600))
      await begun(page)
      await composer(page).fill('first in line')
      await page.getByRole('button', { name: 'Queue', exact: true }).click()
      await page.getByText('first in line').waitFor()
      await composer(page).fill('second in line')
      await composer(page).press('Enter')
      await page.getByText('second in line').waitFor()
      await page.getByRole('button', { name: 'Edit the queued message' }).nth(1).click()
      await page.getByRole('textbox', { name: 'Edit the queued message' }).fill('second, better')
      await page.getByRole('button', { name: 'Save' }).click()
      await page.getByText('second, better').waitFor()
      await page.getByRole('button', { name: 'Move up' }).nth(1).click()
      await until('the second is the first', () =>
        page.evaluate(() => window.troupe.session.store.queue[0].content === 'second, better'))
      await page.getByRole('button', { name: 'Move down' }).first().click()
      await until('and the second again', () =>
        page.evaluate(() => window.troupe.session.store.queue[1].content === 'second, better'))
      await page.getByRole('button', { name: 'Remove from the queue' }).nth(1).click()
      await page.getByText('second, better').waitFor({ state: 'detached' })
      await page.getByRole('button', { name: 'Remove from the queue' }).click()
      await page.getByText('first in line').waitFor({ state: 'detached' })
      await page.getByRole('button', { name: 'Stop' }).click()
      await waitStatus(page, 'CANCELLED')
      await same(page, node, id)
      await page.getByRole('button', { name: 'Retry' }).click()
      await until('attempt 2', () => page.evaluate(() => window.troupe.session.store.messages()[1].view.attempts.length === 2))
      await begun(page)
      await page.keyboard.press('Control+.')
      await waitStatus(page, 'CANCELLED')
      await composer(page).fill('')
      await composer(page).press('ArrowUp')
      const edit = page.getByRole('textbox', { name: 'Edit and run again' })
      await edit.fill('Say hello')
      await edit.press('Enter')
      await until('the edit replaced it', () =>
        page.evaluate(() => window.troupe.session.store.messages()[0].view.content === 'Say hello'))
      await waitStatus(page, 'COMPLETED')
      assert.equal(await page.evaluate(() => window.troupe.session.store.messages().length), 2)
      await same(page, node, id)
    },
  },
  {
    name: 'errors and a Team without a device',
    async run(world) {
      // The node's own machine may have what the Team needs.
      world.node.env = { TROUPE__DEVICE__ENABLED: 'false' }
      const page = await ready(world)
      await newTask(page, world.node, '[[demo fail=quota_exceeded fail_after=6]] hello')
      await waitStatus(page, 'FAILED')
      await page.getByText('The account of this model has no budget left.').waitFor()
      await page.getByRole('button', { name: 'Retry' }).waitFor()
      await newTask(page, world.node, 'change something', /^Dev team/)
      await page.getByText(/no device/).first().waitFor()
      await page.goto(`${world.node.url}/tasks/tsk_00000000000000000000000000`)
      await page.getByText('This Task was not found').waitFor()
    },
  },
  {
    name: 'following and staying',
    async run(world) {
      const page = await ready(world, { height: 600 })
      await newTask(page, world.node, 'Explain what a journal is, at length')
      await waitStatus(page, 'COMPLETED')
      await composer(page).fill(slow(900, 60))
      await composer(page).press('Enter')
      await begun(page)
      const region = page.locator('[role=region]')
      const top = () => region.evaluate((el) => el.scrollTop)
      await until('there is something to scroll', () => region.evaluate((el) => el.scrollHeight > el.clientHeight + 400))
      await region.hover()
      await page.mouse.wheel(0, -300)
      await until('it stopped following', () => page.getByRole('button', { name: /^Latest/ }).isVisible())
      const at = await top()
      const length = (await answer(page)).length
      await until('more came', async () => (await answer(page)).length > length + 500)
      assert.ok(Math.abs((await top()) - at) <= 1, 'the place did not move')
      await page.getByRole('button', { name: /^Latest/ }).click()
      await until('at the end again', () => region.evaluate((el) => el.scrollHeight - el.scrollTop - el.clientHeight < 60))
      await page.getByRole('button', { name: 'Stop' }).click()
      await waitStatus(page, 'CANCELLED')
      // Scrolled before the first line reached the top: whoever then asks for the end wants to stay there.
      await newTask(page, world.node, slow(900, 60))
      await begun(page)
      await until('it can be scrolled', () => region.evaluate((el) => el.scrollTop > 0))
      await region.hover()
      await page.mouse.wheel(0, -300)
      const latest = page.getByRole('button', { name: /^Latest/ })
      await latest.waitFor()
      const came = async (more, from) => until(`${more} came`, async () => (await answer(page)).length > from + more)
      await came(2_000, 0)
      const followed = (await answer(page)).length
      await latest.click()
      await came(1_000, followed)
      assert.ok(!(await latest.isVisible()), 'it follows')
      await until('it is at the end', () => region.evaluate((el) => el.scrollHeight - el.scrollTop - el.clientHeight < 60))
      await page.getByRole('button', { name: 'Stop' }).click()
      await waitStatus(page, 'CANCELLED')
    },
  },
  {
    name: 'two browsers see the same',
    async run(world) {
      const page = await ready(world)
      const id = await newTask(page, world.node, slow(150))
      await begun(page)
      const other = world.track(await open(world.browser, { width: 390, height: 844, touch: true }))
      await login(other, world.node, `/tasks/${id}`)
      await waitStatus(page, 'COMPLETED')
      await waitStatus(other, 'COMPLETED')
      await same(page, world.node, id)
      await same(other, world.node, id)
    },
  },
  {
    name: 'leaders and discussions',
    async run(world) {
      const page = await ready(world)
      const { node } = world
      await page.goto(`${node.url}/resources/teams`)
      const team = (model) => `kind: Team
metadata: {name: ${model}-team, displayName: "My ${model}"}
spec:
  collaborationModel: ${model}
  members:
    - {botRef: {name: assistant}, role: leader}
    - {botRef: {name: planner}}
    - {botRef: {name: builder}}
`
      const field = page.getByRole('textbox', { name: 'Apply YAML' })
      await field.fill(team('route').replace('botRef: {name: planner}', 'botRef: {name: planer}'))
      await page.getByRole('button', { name: 'Check' }).click()
      await page.getByRole('alert').filter({ hasText: 'planer' }).waitFor()
      await field.fill(['route', 'coordinate', 'collaborate'].map(team).join('---\n'))
      await page.getByRole('button', { name: 'Apply', exact: true }).click()
      await page.locator('summary', { hasText: 'My collaborate' }).waitFor()
      // The samples of all kinds apply as they stand.
      for (const kind of ['shells', 'models', 'skillbindings', 'skills', 'ghosts', 'bots', 'templates', 'teams']) {
        await page.goto(`${node.url}/resources/${kind}`)
        await page.getByRole('button', { name: 'Begin with a sample' }).click()
        await page.getByRole('button', { name: 'Check' }).click()
        await page.getByText('Would be done:').waitFor()
      }
      const kinds = { route: 'routing', coordinate: 'merge', collaborate: 'conclusion' }
      for (const [model, kind] of Object.entries(kinds)) {
        const id = await newTask(page, node, `Work together on ${model}`, new RegExp(`^My ${model}`))
        await waitStatus(page, 'COMPLETED', 120_000)
        const seen = await page.evaluate(() => window.troupe.session.store.messages().map((r) => r.view.kind))
        assert.ok(seen.includes(kind), `${model}: ${seen.join(', ')}`)
        // Who worked stands in the strip, in order; a press goes there.
        const parts = page.getByRole('navigation', { name: 'Members at work' }).getByRole('button')
        assert.equal(await parts.count(), seen.filter((k) => k !== 'user').length)
        const text = await parts.nth(1).innerText()
        await parts.nth(1).click()
        await until('the member has the focus', () =>
          page.evaluate((name) => name.includes(document.activeElement?.querySelector('h2')?.textContent ?? '-'), text))
        await same(page, node, id)
        await shot(page, `team-${model}`)
      }
    },
  },
  {
    name: 'a template becomes a team',
    async run(world) {
      const page = await ready(world)
      const { node } = world
      await page.goto(`${node.url}/resources/templates`)
      await page.getByRole('button', { name: 'Begin with a sample' }).click()
      await page.getByRole('button', { name: 'Apply', exact: true }).click()
      await page.locator('summary', { hasText: 'Daily report' }).click()
      const one = page.getByRole('listitem').filter({ hasText: 'Daily report' })
      await one.getByRole('button', { name: 'Check' }).click()
      await one.getByText('Would be done:').waitFor()
      await one.getByRole('button', { name: 'Make it mine' }).click()
      await one.getByText('Team/standup').waitFor()
      await shot(page, 'template')
      await page.getByRole('link', { name: 'New Task for standup' }).click()
      await page.getByRole('radio', { name: /^standup/, checked: true }).waitFor()
      // What a person has is never written over.
      await page.goto(`${node.url}/resources/templates`)
      await page.locator('summary', { hasText: 'Daily report' }).click()
      await one.getByRole('button', { name: 'Make it mine' }).click()
      await one.getByRole('alert').filter({ hasText: 'standup' }).waitFor()
    },
  },
]
