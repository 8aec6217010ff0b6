// The page of the cluster, for administrators alone.

import assert from 'node:assert/strict'
import { PASSWORD, until } from './node.mjs'
import { newTask, open, shot, waitStatus } from './page.mjs'
import { begun, ready, slow } from './scenarios.mjs'
import { views } from './shots.mjs'

const text = (page) => page.locator('main').innerText()

export const cluster = [
  {
    name: 'cluster seen and steered',
    async run(world) {
      const { node, browser, track } = world
      const page = await ready(world)
      const id = await newTask(page, node, slow(4000, 20))
      await begun(page)
      const other = track(await page.context().newPage())
      other.faults = []
      await other.goto(`${node.url}/tasks`)
      await other.locator('nav').first().waitFor()
      await other.getByRole('link', { name: 'Cluster' }).click()
      await other.waitForURL(/\/ops\/cluster$/)
      await other.getByText('all 1280 shards have a live owner').waitFor()
      await other.getByText('answers this page').waitFor()
      // The shard of the Task, by its number and on the map.
      const why = await node.call(`/admin/tasks/${id}/why`)
      await other.getByRole('spinbutton', { name: 'Shard' }).fill(String(why.shard))
      await other.getByText(`Shard ${why.shard}: local, epoch ${why.epoch}, 1 entity in memory`).waitFor()
      const map = await other.getByRole('img', { name: /^Map of 1,280 shards/ }).boundingBox()
      await other.mouse.move(map.x + 8, map.y + 8)
      await other.getByText('Shard 0: local').waitFor()
      // Its entity, found and begun anew: the answer goes on as the next attempt.
      const entity = why.entity.entity
      await other.getByRole('searchbox', { name: 'Find by name or id' }).fill(entity.slice(0, 14))
      await other.getByRole('button', { name: entity }).click()
      await other.getByRole('button', { name: 'Unload' }).click()
      await other.getByText('It is not idle').waitFor()
      await other.getByRole('button', { name: 'Begin anew' }).click()
      await other.getByText('begins anew from its journal').waitFor()
      await until('a second attempt', async () => {
        const { turns } = await node.call(`/tasks/${id}/join`)
        return turns.some((t) => t.messages.some((m) => m.attempts.length > 1))
      })
      // The checks are made when somebody asks, and each has its proof.
      await other.getByRole('button', { name: 'Run the checks' }).click()
      await other.getByText(/\d+ checks went well/).click()
      await other.locator('[data-check=shards]').getByText('1280 shards owned').waitFor()
      assert.ok((await other.locator('[data-check]').count()) >= 15)
      // It stands still while it is paused.
      await other.getByRole('button', { name: 'Pause' }).click()
      let asked = 0
      other.on('request', (request) => (asked += request.url().includes('/admin/nodes') ? 1 : 0))
      await other.evaluate(() => new Promise((done) => setTimeout(done, 3_000)))
      assert.equal(asked, 0, 'nothing is asked for')
      await other.getByRole('button', { name: 'Go on' }).click()
      await until('it asks again', () => asked > 0)
      await node.call(`/tasks/${id}/cancel`, { method: 'POST', body: '{}' })
      await waitStatus(page, 'CANCELLED')
      // Somebody else does not see the way, nor the page.
      await node.call('/users', { method: 'POST', body: JSON.stringify({ user_name: 'bob', password: PASSWORD }) })
      const bob = track(await open(browser))
      await bob.goto(`${node.url}/login?next=%2Fops%2Fcluster`)
      await bob.locator('input[name=username]').fill('bob')
      await bob.locator('input[name=password]').fill(PASSWORD)
      await bob.locator('button[type=submit]').click()
      await bob.getByText('This page is for administrators.').waitFor()
      assert.equal(await bob.getByRole('link', { name: 'Cluster' }).count(), 0)
      assert.ok(!(await text(bob)).includes('epoch'))
    },
  },
  ...views.map((view) => ({
    name: `cluster shots ${view.tag}`,
    async run(world) {
      const page = await ready(world, view)
      await newTask(page, world.node, slow(600))
      await begun(page)
      await page.goto(`${world.node.url}/ops/cluster`)
      await page.locator('[role=table] [role=row]').nth(1).waitFor()
      await shot(page, `cluster-${view.tag}`)
      await page.locator('section[aria-labelledby=checks] button').click()
      await page.locator('section [role=status] summary').click()
      await page.locator('section [role=status] summary').scrollIntoViewIfNeeded()
      await shot(page, `cluster-checks-${view.tag}`)
      await page.locator('svg[role=img]').scrollIntoViewIfNeeded()
      await shot(page, `cluster-shards-${view.tag}`)
      await page.locator('main [aria-expanded=false]').last().click()
      await page.locator('[role=table] .btn-link').first().click()
      await page.locator('[role=table]').scrollIntoViewIfNeeded()
      await shot(page, `cluster-actors-${view.tag}`)
    },
  })),
]
