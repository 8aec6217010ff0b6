// What the scenarios do with a page of the console.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import axe from 'axe-core'
import { PASSWORD, until } from './node.mjs'

export const OUT = process.env.TROUPE_SHOTS ?? new URL('../../../../target/console-e2e/', import.meta.url).pathname

export async function open(browser, { width = 1440, height = 900, theme = 'light', lang = 'en', touch = false } = {}) {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: theme,
    locale: lang === 'zh' ? 'zh-CN' : 'en-US',
    hasTouch: touch,
    reducedMotion: 'no-preference',
  })
  const page = await context.newPage()
  page.faults = []
  page.on('pageerror', (error) => page.faults.push(`error: ${error.message}`))
  page.on('console', (message) => {
    // The browser itself tells of refused connections and statuses; the tests cause some.
    const own = /net::|Failed to load resource|WebSocket connection/.test(message.text())
    if (message.type() === 'error' && !own) page.faults.push(`console: ${message.text()}`)
  })
  return page
}

export async function login(page, node, path = '/tasks') {
  await page.goto(`${node.url}/login?next=${encodeURIComponent(path)}`)
  await page.locator('input[name=username]').fill('admin')
  await page.locator('input[name=password]').fill(PASSWORD)
  await page.locator('button[type=submit]').click()
  await page.waitForURL((url) => url.pathname === path)
  // The address comes before the page; its keys are listened to once it has been painted.
  await page.locator('nav').first().waitFor({ state: 'attached' })
  await page.evaluate(() => new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(painted)))))
}

export const composer = (page) => page.locator('main textarea').last()

/** Through the page; `here`: it is open already, with a model chosen. */
export async function newTask(page, node, prompt, team = /^Assistant/, here = false) {
  if (!here) await page.goto(`${node.url}/tasks/new`)
  await page.getByRole('radio', { name: team }).check()
  await page.locator('main textarea').first().fill(prompt)
  // On touch Enter is a new line.
  if (await page.evaluate(() => matchMedia('(pointer: coarse)').matches)) {
    await page.locator('main button.btn-primary').click()
  } else {
    await page.locator('main textarea').first().press('Enter')
  }
  await page.waitForURL(/\/tasks\/tsk_/)
  return new URL(page.url()).pathname.split('/')[2]
}

/** The Task's state in the header. */
export const status = (page) => page.evaluate(() => window.troupe?.session?.store.task?.status)

export const waitStatus = (page, wanted, ms = 60_000) =>
  until(`the Task is ${wanted}`, async () => (await status(page).catch(() => null)) === wanted, ms)

export const answer = (page) =>
  page.evaluate(() => {
    const rows = window.troupe?.session?.store.messages() ?? []
    return rows.filter((r) => r.view.role === 'ASSISTANT').map((r) => r.view.content).join('\n')
  })

const essence = (turns) =>
  turns.map((t) => ({
    id: t.turn_id,
    messages: t.messages.map((m) => ({
      id: m.subtask_id,
      kind: m.kind,
      status: m.status,
      content: m.content,
      blocks: m.blocks.map((b) => [b.id, b.type, b.status, b.content ?? b.tool_output ?? b.handoff ?? '']),
      attempts: m.attempts.map((a) => ({
        attempt: a.attempt,
        status: a.status,
        interrupted: (a.interrupted ?? []).map((b) => [b.id, b.type, b.content ?? '']),
      })),
    })),
  }))

/** What the page holds is what the node holds, and nothing went wrong on the way. */
export async function same(page, node, id) {
  const answerOf = async () => (await node.call(`/tasks/${id}/join`)).turns
  const here = await page.evaluate(() => JSON.parse(JSON.stringify(window.troupe.session.store.views())))
  assert.deepEqual(essence(here), essence(await answerOf()))
  const counts = await page.evaluate(() => window.troupe.session.counts)
  assert.equal(counts.broken, 0, 'offsets fit')
  assert.equal(counts.afterEnd, 0, 'nothing came after an end')
  return counts
}

/** No page scrolls sideways. */
export async function noOverflow(page, name) {
  const wide = await page.evaluate(() => {
    const width = document.documentElement.clientWidth
    const boxed = (el) => {
      for (let p = el.parentElement; p; p = p.parentElement) {
        if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(p).overflowX)) return true
      }
      return false
    }
    const out = [...document.querySelectorAll('body *')]
      .filter((el) => el.getBoundingClientRect().right > width + 1 && !boxed(el))
      .map((el) => `${el.tagName}.${String(el.className).slice(0, 60)}`)
    const scrolls = [...document.querySelectorAll('main, main > div, [role=region]')]
      .filter((el) => el.scrollWidth > el.clientWidth + 1 && getComputedStyle(el).overflowX !== 'visible')
      .map((el) => `scrolls: ${el.tagName}.${String(el.className).slice(0, 60)} ${el.scrollWidth}>${el.clientWidth}`)
    return [...(document.documentElement.scrollWidth > width ? ['the page'] : []), ...out, ...scrolls]
  })
  assert.deepEqual(wide, [], `${name} fits its width`)
}

/** Nothing that axe knows of stands in anybody's way. */
export async function accessible(page, name) {
  await page.evaluate(axe.source)
  const { violations } = await page.evaluate(() =>
    // The one thing it may not look into is the place for the mouse alone.
    window.axe.run(document, { resultTypes: ['violations'] }),
  )
  const found = violations.map((v) => `${v.impact} ${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(' | ')}`)
  assert.deepEqual(found, [], `${name} is accessible`)
}

/** Everything that can be pressed is large enough to be hit. */
export async function targets(page, name) {
  const small = await page.evaluate(() =>
    [...document.querySelectorAll('button, a[href], input, select, textarea, summary')]
      .filter((el) => el.checkVisibility({ opacityProperty: false, visibilityProperty: true }) && !el.closest('[aria-hidden=true], .sr-only, .prose, p') && !el.classList.contains('sr-only'))
      // A label around a field is its target too.
      .map((el) => [el, (el.closest('label') ?? el).getBoundingClientRect()])
      .filter(([, box]) => box.width > 0 && (box.width < 24 || box.height < 20))
      .map(([el, box]) => `${el.outerHTML.slice(0, 120)} ${Math.round(box.width)}x${Math.round(box.height)}`),
  )
  assert.deepEqual(small, [], `${name} can be hit`)
}

export async function shot(page, name) {
  const dir = join(OUT, 'shots')
  mkdirSync(dir, { recursive: true })
  await page.evaluate(() => document.fonts.ready)
  await noOverflow(page, name)
  const missing = await page.evaluate(() =>
    (document.body.innerText.match(/\b(?:nav|app|auth|cluster|asks|inbox|devices|diff|task|tasks|compose|block|gate|stages|status|note|link|resources|error|keys|palette)\.[a-zA-Z_.]+\b/g) ?? []),
  )
  assert.deepEqual(missing, [], `${name} has all its words`)
  // Colours on their way from one to another are nobody's.
  await page.evaluate(() => Promise.all(document.getAnimations().filter((a) => a.effect?.getComputedTiming().iterations !== Infinity).map((a) => a.finished.catch(() => undefined))))
  await page.screenshot({ path: join(dir, `${name}.png`) })
  // All of a scenario's pictures are taken; it fails at its end.
  for (const check of [targets, accessible]) await check(page, name).catch((error) => page.faults.push(error.message))
}
