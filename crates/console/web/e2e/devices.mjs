// The pages of devices: a machine joins with the line of the page, works, and is revoked.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beside, SKIPPED } from './agent.mjs'
import { until } from './node.mjs'
import { login, newTask, open, shot, waitStatus } from './page.mjs'
import { views } from './shots.mjs'

/** A Team whose messages are command lines. */
async function commands(node) {
  const document = (kind, name, spec) => ({ apiVersion: 'agent.wecode.io/v1', kind, metadata: { name, namespace: 'default' }, spec })
  for (const body of [
    document('Shell', 'sh', { shellType: 'Command' }),
    document('Ghost', 'sh', { systemPrompt: 'none' }),
    document('Bot', 'sh', { ghostRef: { name: 'sh' }, shellRef: { name: 'sh' } }),
    document('Team', 'sh', { collaborationModel: 'solo', members: [{ botRef: { name: 'sh' } }] }),
  ]) {
    await node.call('/namespaces/default/apply', { method: 'POST', body: JSON.stringify(body) })
  }
}

async function begin({ browser, node, track }, view, env = {}) {
  node.env = env
  node.args = ['--edge', '127.0.0.1:0']
  await node.start()
  await node.setup()
  await commands(node)
  const page = track(await open(browser, view))
  await login(page, node)
  return page
}

const SH = { TROUPE__DEVICE__COMMANDS__SH: '/bin/sh' }
const NONE = { TROUPE__DEVICE__ENABLED: 'false' }

/** A build of the node alone has no program for other machines. */
const canJoin = () => existsSync(beside('troupe-edge'))

/** Runs the line of the page as another machine would. */
function machine(node, close, url) {
  const home = join(node.dir, 'machine')
  mkdirSync(home)
  const child = spawn(beside('troupe-edge'), ['join', url], { env: { PATH: process.env.PATH, HOME: home }, stdio: 'ignore' })
  const ended = new Promise((done) => child.on('exit', done))
  close.push(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return ended
}

const lineOf = async (page) => (await page.locator('[role=dialog] code').innerText()).trim()

export const devices = [
  {
    name: 'a line before a device',
    async run(world) {
      const { node } = world
      const page = await begin(world, undefined, SH)
      const here = await until('the device is there', async () => (await node.call('/devices')).items.find((d) => d.status === 'online'))
      const set = (change) => node.call(`/devices/${here.id}`, { method: 'PATCH', body: JSON.stringify(change) })
      await set({ slots: 1 })
      const gate = join(node.dir, 'gate')
      const message = `sh -c 'while [ ! -e ${gate} ]; do sleep 0.05; done'`
      const send = () => node.call('/tasks', { method: 'POST', body: JSON.stringify({ team_id: 'sh', message }) })
      const tasks = [await send(), await send(), await send()].map((ack) => ack.task_id)
      for (const [place, task] of [[1, tasks[1]], [2, tasks[2]]]) {
        await page.goto(`${node.url}/tasks/${task}`)
        await page.getByText(`place ${place} in line`).first().waitFor()
      }
      await shot(page, 'line-task')
      await page.goto(`${node.url}/devices`)
      await page.getByText('1/1 +2').waitFor()
      await shot(page, 'line-devices')
      await set({ draining: true })
      await page.goto(`${node.url}/tasks/${tasks[2]}`)
      await page.getByText('the devices that fit get no new work (draining)').first().waitFor()
      await shot(page, 'line-draining')
      await set({ draining: false })
      writeFileSync(gate, '')
      await waitStatus(page, 'COMPLETED')
      await page.goto(`${node.url}/devices`)
      await page.getByText('0/1', { exact: true }).waitFor()
    },
  },
  {
    name: 'devices joined, set and revoked',
    async run(world) {
      const { node, close } = world
      if (!canJoin()) return SKIPPED
      const page = await begin(world, undefined, NONE)
      await page.keyboard.press('g')
      await page.keyboard.press('d')
      await page.waitForURL(/\/devices$/)
      await page.getByText('No devices yet.').waitFor()
      await page.getByText('troupe device invite').waitFor()
      await page.getByRole('button', { name: 'Join a machine' }).click()
      const dialog = page.getByRole('dialog')
      // What the node refuses is told beside the field's values, and they stay.
      await dialog.getByLabel('Address of the cluster').fill('no such/address')
      await dialog.getByRole('button', { name: 'Make the line' }).click()
      await dialog.getByRole('alert').filter({ hasText: /host:port/ }).waitFor()
      await dialog.getByLabel('Address of the cluster').fill('')
      await dialog.getByLabel('Name of the device').fill('workbench')
      await dialog.getByRole('button', { name: 'Make the line' }).click()
      await dialog.getByText('Waiting for the machine').waitFor()
      await dialog.getByRole('img', { name: 'The line as a QR code' }).waitFor()
      await shot(page, 'devices-join')
      // Nothing comes for 20 s: what it may be, with the address that the line names.
      await page.clock.install()
      await page.clock.fastForward(21_000)
      await dialog.getByText(/does not reach 127\.0\.0\.1:\d+ over UDP or TCP/).waitFor()
      await shot(page, 'devices-stuck')
      await page.clock.resume()
      await dialog.getByText(/^good for (10:00|9:\d\d)$/).waitFor()
      const line = await lineOf(page)
      assert.match(line, /^troupe-edge join troupe:\/\/\S+$/)
      const ended = machine(node, close, line.split(' ').at(-1))
      await dialog.getByText('workbench joined').waitFor()
      await dialog.getByText(/^Ready: \d+ slots?$/).waitFor()
      assert.equal(await dialog.getByText('troupe://').count(), 0, 'the line is not shown once it was used')
      await dialog.getByRole('link', { name: 'Show the device' }).click()
      await page.waitForURL(/\/devices\/dev_/)
      await page.getByRole('heading', { name: 'workbench' }).waitFor()
      await page.getByText('It is connected and takes work.').waitFor()
      await page.getByText(/^QUIC\s\d+(\.\d)?\sms$/).waitFor()
      await page.getByRole('img', { name: /^linked for 100 % of the last \S+, no cut$/ }).waitFor()
      // Settings: what was changed is kept, what cannot be is told.
      await page.getByLabel('Labels').fill('gpu=1\nno label')
      await page.getByLabel('Alias').fill('bench')
      await page.getByRole('button', { name: 'Save' }).click()
      await page.getByText('Line 2 is no key=value.').waitFor()
      await page.getByLabel('Labels').fill('gpu=1')
      await page.getByLabel('Slots').fill('2')
      await page.getByRole('button', { name: 'Save' }).click()
      await page.getByRole('heading', { name: 'bench', exact: true }).waitFor()
      await page.getByRole('button', { name: 'Drain' }).click()
      await page.getByText('It gets no new work; what runs goes on.').waitFor()
      await page.getByRole('button', { name: 'Prefer it' }).click()
      await page.getByText('preferred').waitFor()
      const { items } = await node.call('/devices')
      const [kept] = items
      assert.deepEqual([kept.alias, kept.slots, kept.draining, kept.is_default, kept.labels.gpu], ['bench', 2, true, true, '1'])
      // Revoked only with its name; its agent ends.
      await page.getByRole('button', { name: 'Revoke' }).click()
      const asks = page.getByRole('alertdialog')
      const revoke = asks.getByRole('button', { name: 'Revoke' })
      await asks.getByLabel('Write workbench to confirm').fill('bench')
      assert.ok(await revoke.isDisabled())
      await asks.getByLabel('Write workbench to confirm').fill('workbench')
      await revoke.click()
      await page.waitForURL(/\/devices$/)
      await page.getByText('No devices yet.').waitFor()
      await ended
      await page.goto(`${node.url}/devices/${kept.id}`)
      await page.getByText('This device was not found.').waitFor()
    },
  },
  {
    name: 'devices show what runs on them',
    async run(world) {
      const { node } = world
      const page = await begin(world, undefined, SH)
      const id = await newTask(page, node, "sh -c 'n=0; while [ ! -e never ] && [ $n -lt 600 ]; do n=$((n+1)); sleep 0.1; done'", /^sh/)
      await page.goto(`${node.url}/devices`)
      await page.getByText('1 of 5 slots taken').waitFor({ state: 'attached' })
      await page.locator('[data-band] [data-tile=online]').waitFor()
      await page.getByRole('columnheader', { name: 'Link' }).waitFor()
      await page.locator('a[data-row]').click()
      const work = page.getByRole('link', { name: /never/ })
      await work.waitFor()
      assert.match(await work.getAttribute('href'), new RegExp(id))
      await work.click()
      await page.waitForURL(/\/tasks\/tsk_/)
      await waitStatus(page, 'RUNNING')
      await page.keyboard.press('Control+.')
      await waitStatus(page, 'CANCELLED')
      await until('its slot is free', async () => (await node.call('/devices')).items[0].slots_used === 0)
      // What a program printed is shown as it is: lines, spaces and stars.
      await newTask(page, node, "sh -c 'echo one; echo; echo \"  *two*\"; echo \"# three\"'", /^sh/)
      await waitStatus(page, 'COMPLETED')
      const shown = await page.getByText('*two*', { exact: false }).last().innerText()
      assert.match(shown, /one\n\n {2}\*two\*\n# three/)
      await shot(page, 'command-output')
    },
  },
  ...[views[0], views[4]].map((view) => ({
    name: `devices shots ${view.tag}`,
    async run(world) {
      if (!canJoin()) return SKIPPED
      const { node, close } = world
      const page = await begin(world, view, SH)
      await page.goto(`${node.url}/devices`)
      await page.locator('main .btn-primary').click()
      await page.locator('[role=dialog] form').waitFor()
      await shot(page, `devices-join-${view.tag}`)
      await page.locator('[role=dialog] input').first().fill('workbench')
      await page.locator('[role=dialog] button[type=submit]').click()
      await page.locator('[role=dialog] code').waitFor()
      await shot(page, `devices-line-${view.tag}`)
      machine(node, close, (await lineOf(page)).split(' ').at(-1))
      await page.locator('[role=dialog] a').waitFor()
      await until('it is ready', async () => (await page.locator('[role=dialog] .arc').count()) === 0)
      await shot(page, `devices-joined-${view.tag}`)
      await page.keyboard.press('Escape')
      await newTask(page, node, "sh -c 'n=0; while [ ! -e never ] && [ $n -lt 600 ]; do n=$((n+1)); sleep 0.1; done'", /^sh/)
      await until('it runs', async () => (await node.call('/devices')).items.some((d) => d.slots_used === 1))
      const { items } = await node.call('/devices')
      const idle = items.find((d) => d.slots_used === 0)
      await node.call(`/devices/${idle.id}`, { method: 'PATCH', body: JSON.stringify({ draining: true, alias: view.lang === 'zh' ? '书房的机器' : 'Machine in the study', labels: { gpu: '1' } }) })
      await page.goto(`${node.url}/devices`)
      await page.locator('tbody tr').nth(1).waitFor()
      await shot(page, `devices-${view.tag}`)
      await page.goto(`${node.url}/devices/${items.find((d) => d.slots_used === 1).id}`)
      await page.locator('main li a').waitFor()
      await shot(page, `device-${view.tag}`)
      await page.locator('main button.text-danger').click()
      await page.locator('[role=alertdialog] input').waitFor()
      await shot(page, `device-revoke-${view.tag}`)
      await page.keyboard.press('Escape')
      await page.locator('main form button').scrollIntoViewIfNeeded()
      await shot(page, `device-settings-${view.tag}`)
    },
  })),
  {
    name: `devices shots none ${views[0].tag}`,
    async run(world) {
      const page = await begin(world, views[0], NONE)
      await page.goto(`${world.node.url}/devices`)
      await page.locator('main pre').waitFor()
      await shot(page, `devices-none-${views[0].tag}`)
    },
  },
]
