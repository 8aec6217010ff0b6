import { answer, composer, login, newTask, open, shot, waitStatus } from './page.mjs'
import { until } from './node.mjs'

const MARKDOWN = `Show everything you can.`

const views = [
  { tag: 'desktop-light-en', width: 1440, height: 900, theme: 'light', lang: 'en' },
  { tag: 'desktop-dark-zh', width: 1440, height: 900, theme: 'dark', lang: 'zh' },
  { tag: 'tablet-light-zh', width: 800, height: 1000, theme: 'light', lang: 'zh' },
  { tag: 'phone-light-en', width: 390, height: 844, theme: 'light', lang: 'en', touch: true },
  { tag: 'phone-dark-zh', width: 390, height: 844, theme: 'dark', lang: 'zh', touch: true },
]

const TEAMS = { assistant: /^Assistant/, plan: /^Plan, then build/ }

export const shots = views.map((view) => ({
  name: `shots ${view.tag}`,
  async run({ browser, node, track }) {
    await node.start()
    const page = track(await open(browser, view))
    await page.goto(`${node.url}/setup#${node.setupToken}`)
    await page.locator('input[name=password]').waitFor()
    await shot(page, `setup-${view.tag}`)
    await node.setup()
    await page.goto(`${node.url}/login`)
    await page.locator('input[name=password]').waitFor()
    await shot(page, `login-${view.tag}`)
    await login(page, node)
    await page.locator('main ul').first().waitFor()
    await shot(page, `tasks-empty-${view.tag}`)
    await page.goto(`${node.url}/tasks/new`)
    await page.getByRole('radio').first().waitFor()
    await shot(page, `new-${view.tag}`)
    const zh = view.lang === 'zh'
    await newTask(page, node, zh ? '解释一下什么是日志（journal），并给出例子' : MARKDOWN, TEAMS.assistant)
    await until('it streams', async () => (await answer(page)).length > 40)
    await shot(page, `task-live-${view.tag}`)
    await waitStatus(page, 'COMPLETED')
    await shot(page, `task-done-${view.tag}`)
    await page.goto(`${page.url()}/plain`)
    await page.locator('article').first().waitFor()
    await shot(page, `plain-${view.tag}`)
    await newTask(page, node, '[[demo fail=rate_limit fail_after=8 retry_after=0]] hello', TEAMS.assistant)
    await waitStatus(page, 'FAILED', 90_000)
    await shot(page, `task-failed-${view.tag}`)
    await newTask(page, node, zh ? '写一份关于潮汐的小指南' : 'Write a tiny guide to tides', TEAMS.plan)
    await waitStatus(page, 'PENDING_CONFIRMATION')
    await composer(page).waitFor()
    await shot(page, `gate-${view.tag}`)
    await newTask(page, node, '[[demo chunks=600 size=14 pace=30 think=2]] long', TEAMS.assistant)
    await until('it streams', async () => (await answer(page)).length > 40)
    for (const text of zh ? ['排队的消息', '第二条'] : ['A queued message', 'And another one that is rather long, to see how it is cut off at the end of the line when there is no room']) {
      await composer(page).fill(text)
      await page.locator('main button.btn-primary').last().click()
    }
    await page.locator('section ol li').nth(1).waitFor()
    await shot(page, `queue-${view.tag}`)
    await page.goto(`${node.url}/tasks`)
    await page.locator('main ul li').nth(3).waitFor()
    await shot(page, `tasks-${view.tag}`)
    await page.goto(`${node.url}/resources/teams`)
    await page.locator('main details').first().waitFor()
    await shot(page, `resources-${view.tag}`)
  },
}))
