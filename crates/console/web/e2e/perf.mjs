// What the page's main thread did, from the browser's own trace. CPU time counts, not time on
// the wall: other work on the machine must not fail a test.

const CATEGORIES = ['toplevel', 'devtools.timeline', 'disabled-by-default-devtools.timeline', 'loading']

/** Runs `work` and says how long the page's tasks were, in ms of CPU. */
export async function traced(browser, page, work) {
  await browser.startTracing(page, { categories: CATEGORIES })
  const value = await work().catch(async (error) => {
    await browser.stopTracing().catch(() => undefined)
    throw error
  })
  const { traceEvents } = JSON.parse((await browser.stopTracing()).toString())
  return { value, ...tasks(traceEvents, page.url()) }
}

export function tasks(events) {
  const mains = events.filter((e) => e.name === 'thread_name' && e.args?.name === 'CrRendererMain')
  const key = (e) => `${e.pid}.${e.tid}`
  const runs = (main) => events.filter((e) => key(e) === key(main) && e.ph === 'X' && e.name === 'ThreadControllerImpl::RunTask' && e.tdur !== undefined)
  // The page under test is the renderer that worked most.
  const all = mains.map((main) => ({ main, list: runs(main) }))
  all.sort((a, b) => sum(b.list) - sum(a.list))
  const { main, list } = all[0] ?? { list: [] }
  const longest = list.toSorted((a, b) => b.tdur - a.tdur)
  const what = (task) => {
    const inside = events.filter((e) => e.ph === 'X' && key(e) === key(main) && e.ts >= task.ts && e.ts + (e.dur ?? 0) <= task.ts + task.dur && !/RunTask/.test(e.name))
    const byName = new Map()
    for (const e of inside) byName.set(e.name, Math.max(byName.get(e.name) ?? 0, (e.tdur ?? 0) / 1000))
    return [...byName].sort((a, b) => b[1] - a[1]).slice(0, 5).map(([name, ms]) => `${name} ${Math.round(ms)}`).join(', ')
  }
  return {
    longest: (longest[0]?.tdur ?? 0) / 1000,
    cpu: sum(list) / 1000,
    worst: longest.slice(0, 5).map((task) => `${Math.round(task.tdur / 1000)} ms: ${what(task)}`),
  }
}

const sum = (list) => list.reduce((total, e) => total + e.tdur, 0)
