// What a real agent asks its person, answered in the page.

import assert from 'node:assert/strict'
import { calls, runtimes, SKIPPED, team, withAgent } from './agent.mjs'
import { until } from './node.mjs'
import { login, newTask, open, same, shot, waitStatus } from './page.mjs'
import { views } from './shots.mjs'

const write = calls('Write', { file_path: 'src/tides.py', content: 'def high(n):\n    return n * 12.42\n' })
const bash = (command) => calls('Bash', { command, description: 'Says where it is' })
const QUESTIONS = {
  questions: [
    { question: 'Which colour has the door?', header: 'Colour', options: [{ label: 'Red', description: 'As it was' }, { label: 'Blue', description: 'As the sea' }], multiSelect: false },
    { question: 'What else is to be painted?', header: 'More', options: [{ label: 'Fence', description: 'All of it' }, { label: 'Roof', description: 'The north side' }], multiSelect: true },
  ],
}

/** A fresh card takes nothing yet. */
const calmed = (page) => page.locator('[data-ask=pending] [aria-disabled=false]').first().waitFor()

const card = (page, state) => page.locator(`[data-ask=${state}]`).last()

async function begin({ browser, node, track, close }, dir, view) {
  withAgent(node, dir)
  await node.start()
  await node.setup()
  await team(node, close)
  const page = track(await open(browser, view))
  await login(page, node)
  return page
}

export const asks = [
  {
    name: "an agent's own team",
    async run(world) {
      const dir = runtimes()
      if (!dir) return SKIPPED
      const { node } = world
      const page = await begin(world, dir)
      const within = calls('run_command', { command: 'echo $((6*7)) tides' })
      const id = await newTask(page, node, calls('delegate_task_to_member', { member_id: 'hand', task: within }), /^agnos/)
      // What a person is asked stands outside of what its member does.
      await card(page, 'pending').getByText('echo $((6*7)) tides').first().waitFor()
      const member = page.getByRole('button', { name: /^Sub-agent · hand: / })
      await member.getByText('running').waitFor()
      await calmed(page)
      await card(page, 'pending').getByRole('button', { name: 'Allow', exact: true }).click()
      await waitStatus(page, 'COMPLETED')
      await member.getByText('done').waitFor()
      assert.equal(await page.getByRole('button', { name: /^echo / }).count(), 0, 'its step is within')
      await member.click()
      await page.getByRole('button', { name: /^echo / }).click()
      await page.locator('pre', { hasText: /^42 tides/ }).waitFor()
      await shot(page, 'agent-team')
      await same(page, node, id)
    },
  },
  {
    name: 'asks answered once, from any page',
    async run(world) {
      const dir = runtimes()
      if (!dir) return SKIPPED
      const { node, track } = world
      const page = await begin(world, dir)
      // Allowed with the keyboard alone; the file is there, and what changed is shown.
      let id = await newTask(page, node, write, /^devs/)
      await card(page, 'pending').getByText('def high(n):').waitFor()
      // The header says it, and leads there.
      await page.locator('header').getByRole('button', { name: 'needs your answer' }).click()
      await page.locator('[role=article]:focus [data-ask=pending]').waitFor()
      await calmed(page)
      await card(page, 'pending').getByRole('button', { name: 'Allow', exact: true }).focus()
      await page.keyboard.press('Enter')
      await card(page, 'allowed').waitFor()
      await waitStatus(page, 'COMPLETED')
      await page.getByText('1 file changed').first().waitFor()
      await page.getByRole('button', { name: 'Show the changes' }).first().click()
      await page.getByText('+def high(n):').first().waitFor()
      await same(page, node, id)
      // Two pages, one answer: the second is told, and both follow.
      id = await newTask(page, node, bash('touch door'), /^devs/)
      await card(page, 'pending').getByText('touch door').first().waitFor()
      const other = track(await page.context().newPage())
      other.faults = []
      await other.goto(page.url())
      await card(other, 'pending').waitFor()
      let gone = false
      await other.route('**/answer', async (route) => {
        if (gone) return route.abort()
        // Somebody is quicker.
        const block = await other.evaluate(() => window.troupe.session.store.messages().at(-1).view.blocks.find((b) => b.type === 'approval').id)
        await node.call(`/tasks/${id}/answer`, { method: 'POST', body: JSON.stringify({ block_id: block, answer: 'deny', message: 'not now' }) })
        return route.continue()
      })
      await calmed(other)
      gone = true
      await card(other, 'pending').getByRole('button', { name: 'Allow', exact: true }).click()
      await card(other, 'pending').getByText('Not sent').waitFor()
      gone = false
      const answered = other.waitForResponse(/\/answer$/)
      await card(other, 'pending').getByRole('button', { name: 'Allow', exact: true }).click()
      assert.equal((await answered).status(), 409)
      for (const one of [page, other]) await card(one, 'denied').waitFor()
      await waitStatus(page, 'COMPLETED')
      await other.close()
      // A question: nothing is sent before all of it is answered.
      id = await newTask(page, node, calls('AskUserQuestion', QUESTIONS), /^devs/)
      const asked = card(page, 'pending')
      await asked.getByText('Which colour has the door?').waitFor()
      const send = asked.getByRole('button', { name: 'Send answer' })
      assert.ok(await send.isDisabled())
      await asked.getByRole('radio', { name: /^Red/ }).check()
      await asked.getByRole('radio', { name: /^Something else/ }).check()
      await asked.getByLabel('Your own answer to: Which colour').fill('green')
      await asked.getByRole('checkbox', { name: /^Roof/ }).check()
      await page.reload()
      await asked.getByRole('radio', { name: /^Something else/ }).waitFor()
      assert.ok(await asked.getByRole('radio', { name: /^Something else/ }).isChecked(), 'a choice survives a reload')
      await calmed(page)
      await send.click()
      await card(page, 'answered').waitFor()
      await waitStatus(page, 'COMPLETED')
      const told = await node.call(`/tasks/${id}/join`)
      await until('the agent was told', () => JSON.stringify(told).includes('green') && JSON.stringify(told).includes('Roof'))
      await same(page, node, id)
      // What nobody answered before the Task was stopped says so.
      await newTask(page, node, bash('touch fence'), /^devs/)
      await card(page, 'pending').waitFor()
      await page.keyboard.press('Control+.')
      await waitStatus(page, 'CANCELLED')
      await page.locator('[data-ask=withdrawn], [data-ask=over]').waitFor()
      assert.equal(await page.getByRole('button', { name: 'Allow', exact: true }).count(), 0)
    },
  },
  {
    name: 'asks inbox, live over all Tasks',
    async run(world) {
      const dir = runtimes()
      if (!dir) return SKIPPED
      const { node } = world
      const page = await begin(world, dir)
      const ids = [await newTask(page, node, write, /^devs/)]
      await card(page, 'pending').getByText('def high(n):').waitFor()
      ids.push(await newTask(page, node, calls('AskUserQuestion', QUESTIONS), /^devs/))
      await card(page, 'pending').getByText('Which colour has the door?').waitFor()
      await page.getByRole('link', { name: /Inbox.*2 wait for you/ }).waitFor()
      await page.goto(`${node.url}/tasks?show=needs-you`)
      await until('both are listed', async () => (await page.locator('main a[data-row]').count()) === 2)
      await page.getByRole('link', { name: /Inbox.*2 wait for you/ }).click()
      const rows = page.getByRole('list', { name: 'What waits for you' }).getByRole('listitem')
      await page.locator('[data-ask=pending]').nth(1).waitFor()
      const file = rows.filter({ has: page.getByText('def high(n):') })
      const asked = rows.filter({ has: page.getByText('Which colour has the door?') })
      // Blocks of two Tasks have the same id; a choice here is not one there.
      await asked.getByRole('radio', { name: /^Red/ }).check()
      await asked.getByRole('checkbox', { name: /^Roof/ }).check()
      await file.locator('[aria-disabled=false]').first().waitFor()
      await file.getByRole('button', { name: 'Allow', exact: true }).click()
      await file.locator('[data-ask=allowed]').waitFor()
      await page.getByRole('link', { name: /Inbox.*1 waits for you/ }).waitFor()
      // What comes while somebody looks stands behind; what others answer stays and says so.
      const body = { team_id: 'devs', message: bash('touch fence'), client_message_id: crypto.randomUUID() }
      const { task_id } = await node.call('/tasks', { method: 'POST', body: JSON.stringify(body) })
      const late = rows.nth(2)
      await late.getByText('touch fence').first().waitFor()
      const { asks } = await node.call('/asks')
      const { block } = asks.find((ask) => ask.task_id === task_id)
      await late.getByText('if nobody answers').waitFor()
      await node.call(`/tasks/${task_id}/answer`, { method: 'POST', body: JSON.stringify({ block_id: block.id, answer: 'deny' }) })
      await late.locator('[data-ask=over]').waitFor()
      assert.equal(await rows.count(), 3, 'nothing moves')
      await asked.getByRole('button', { name: 'Send answer' }).click()
      await asked.locator('[data-ask=answered]').waitFor()
      await until('nothing is counted', async () => (await page.getByRole('link', { name: /for you/ }).count()) === 0)
      for (const id of [...ids, task_id]) await until('it is done', async () => (await node.call(`/tasks/${id}`)).status === 'COMPLETED')
      await file.getByRole('link').click()
      await waitStatus(page, 'COMPLETED')
      await same(page, node, ids[0])
      await page.keyboard.press('g')
      await page.keyboard.press('i')
      await page.getByText('Nothing waits for you.').waitFor()
    },
  },
  ...[views[0], views[3], views[4]].map((view) => ({
    name: `asks inbox shots ${view.tag}`,
    async run(world) {
      const dir = runtimes()
      if (!dir) return SKIPPED
      const { node } = world
      const page = await begin(world, dir, view)
      for (const what of [bash('cargo test --workspace --no-fail-fast 2>&1 | tail -n 40'), calls('AskUserQuestion', QUESTIONS), write]) {
        await newTask(page, node, what, /^devs/)
        await card(page, 'pending').waitFor()
      }
      await page.goto(`${node.url}/tasks`)
      await page.locator('main ul li').nth(2).waitFor()
      await shot(page, `tasks-asking-${view.tag}`)
      await page.goto(`${node.url}/inbox`)
      await page.locator('[data-ask=pending]').nth(2).waitFor()
      await shot(page, `inbox-${view.tag}`)
      await calmed(page)
      await page.locator('[data-ask=pending] .btn-primary').first().click()
      await card(page, 'allowed').waitFor()
      await card(page, 'pending').scrollIntoViewIfNeeded()
      await shot(page, `inbox-answered-${view.tag}`)
    },
  })),
  ...[views[0], views[4]].map((view) => ({
    name: `asks shots ${view.tag}`,
    async run(world) {
      const dir = runtimes()
      if (!dir) return SKIPPED
      const { node } = world
      const page = await begin(world, dir, view)
      const zh = view.lang === 'zh'
      await newTask(page, node, bash('cargo test --workspace --no-fail-fast 2>&1 | tail -n 40'), /^devs/)
      await card(page, 'pending').waitFor()
      await shot(page, `approval-${view.tag}`)
      await card(page, 'pending').locator('button[aria-expanded]').click()
      await card(page, 'pending').locator('textarea').fill(zh ? '现在不要运行测试' : 'Not now: run only the unit tests')
      await shot(page, `approval-deny-${view.tag}`)
      await card(page, 'pending').locator('button[type=submit]').click()
      await card(page, 'denied').waitFor()
      await waitStatus(page, 'COMPLETED')
      await shot(page, `approval-denied-${view.tag}`)
      await newTask(page, node, calls('AskUserQuestion', QUESTIONS), /^devs/)
      await card(page, 'pending').locator('input[type=radio]').last().check()
      await shot(page, `question-${view.tag}`)
      await card(page, 'pending').locator('input[type=radio]').first().check()
      await card(page, 'pending').locator('input[type=checkbox]').first().check()
      await calmed(page)
      await card(page, 'pending').locator('button[type=submit]').click()
      await card(page, 'answered').waitFor()
      await waitStatus(page, 'COMPLETED')
      await newTask(page, node, write, /^devs/)
      await card(page, 'pending').waitFor()
      await calmed(page)
      await card(page, 'pending').locator('.btn-primary').click()
      await waitStatus(page, 'COMPLETED')
      await page.locator('[aria-expanded=false]').last().click()
      await page.locator('[role=feed] pre code').last().scrollIntoViewIfNeeded()
      await shot(page, `diff-${view.tag}`)
    },
  })),
]
