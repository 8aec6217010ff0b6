// Drives Chromium against real nodes. `npm run e2e`, or `npm run e2e -- NAME` for some of it.

import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { Node } from './node.mjs'
import { scenarios } from './scenarios.mjs'
import { shots } from './shots.mjs'
import { access } from './access.mjs'
import { SKIPPED } from './agent.mjs'
import { asks } from './asks.mjs'
import { devices } from './devices.mjs'
import { cluster } from './cluster.mjs'
import { links } from './links.mjs'
import { reading } from './reading.mjs'
import { speed } from './speed.mjs'
import { terminals } from './terminal.mjs'
import { OUT } from './page.mjs'

/** Scenarios at a time. */
const LANES = 2

const wanted = process.argv.slice(2)
const all = [...scenarios, ...terminals, ...reading, ...links, ...cluster, ...asks, ...devices, ...access, ...speed, ...shots].filter((s) => wanted.length === 0 || wanted.some((w) => s.name.includes(w)))
let failed = 0
let skipped = 0

const launch = () =>
  chromium.launch({
    executablePath: process.env.TROUPE_CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })

/** One scenario, on a node of its own. */
async function play({ name, run }, browser) {
  const node = new Node()
  const began = Date.now()
  const pages = []
  const close = []
  try {
    const told = await run({ browser, node, close, track: (page) => (pages.push(page), page) })
    for (const page of pages) if (page.faults.length > 0) throw new Error(page.faults.join('\n'))
    if (told === SKIPPED) skipped++
    console.log(told === SKIPPED ? `skip  ${name}` : `ok    ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`)
  } catch (error) {
    failed++
    console.log(`FAIL  ${name}\n${error.stack}`)
    for (const page of pages) {
      const path = join(OUT, 'failures', `${name.replaceAll(/[^a-z0-9]+/gi, '-')}-${pages.indexOf(page) + 1}.png`)
      await page.screenshot({ path }).then(() => console.log(`see ${path}`), () => undefined)
      if (page.faults.length > 0) console.log(page.faults.join('\n'))
    }
    console.log(node.log.split('\n').slice(-15).join('\n'))
  } finally {
    for (const page of pages) await page.context().close().catch(() => undefined)
    for (const one of close) await one()
    await node.close()
  }
}

/** Plays what is left, one after the other, in a browser of its own. */
async function lane(left) {
  const browser = await launch()
  for (let next = left.shift(); next; next = left.shift()) await play(next, browser)
  await browser.close()
}

// They wait more than they work; what is measured has the machine to itself.
const together = all.filter((s) => !s.alone)
await Promise.all(Array.from({ length: LANES }, () => lane(together)))
await lane(all.filter((s) => s.alone))
if (all.length === 0) console.error('no scenario has such a name')
console.log(`${all.length - failed - skipped} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`)
process.exit(failed > 0 || all.length === 0 ? 1 : 0)
