import { answer, composer, login, newTask, open, shot, waitStatus } from './page.mjs'
import { Model, RICH } from './model.mjs'
import { until } from './node.mjs'

export const views = [
  { tag: 'desktop-light-en', width: 1280, height: 800, theme: 'light', lang: 'en' },
  { tag: 'desktop-dark-zh', width: 1440, height: 900, theme: 'dark', lang: 'zh' },
  { tag: 'tablet-light-zh', width: 800, height: 1000, theme: 'light', lang: 'zh' },
  { tag: 'phone-light-en', width: 390, height: 844, theme: 'light', lang: 'en', touch: true },
  { tag: 'phone-dark-zh', width: 390, height: 844, theme: 'dark', lang: 'zh', touch: true },
]

const TEAMS = { assistant: /^Assistant/, plan: /^Plan, then build/ }

export const shots = views.map((view) => ({
  name: `shots ${view.tag}`,
  async run({ browser, node, track, close }) {
    await node.start()
    const page = track(await open(browser, view))
    await page.goto(`${node.url}/setup`)
    await page.locator('pre').waitFor()
    await shot(page, `setup-no-link-${view.tag}`)
    // A change of the part behind # alone loads nothing.
    await page.goto('about:blank')
    await page.goto(`${node.url}/setup#${node.setupToken}`)
    await page.locator('input[name=password]').waitFor()
    await shot(page, `setup-${view.tag}`)
    await node.setup()
    await page.goto(`${node.url}/login`)
    await page.locator('input[name=password]').waitFor()
    await shot(page, `login-${view.tag}`)
    await page.locator('input[name=username]').fill('admin')
    await page.locator('input[name=password]').fill('not this one')
    await page.locator('button[type=submit]').click()
    await page.locator('[role=alert]').filter({ hasText: /./ }).waitFor()
    await shot(page, `login-wrong-${view.tag}`)
    await login(page, node)
    await page.locator('main ul').first().waitFor()
    await shot(page, `tasks-empty-${view.tag}`)
    await page.goto(`${node.url}/inbox`)
    await page.locator('main p').nth(2).waitFor()
    await shot(page, `inbox-empty-${view.tag}`)
    await page.goto(`${node.url}/tasks/new`)
    await page.getByRole('radio').first().waitFor()
    await shot(page, `new-${view.tag}`)
    const zh = view.lang === 'zh'
    const model = await new Model(() => ({ text: RICH[view.lang], piece: 8, pace: 120 })).start()
    close.push(() => model.close())
    await model.join(node)
    await page.goto(`${node.url}/tasks/new`)
    await page.locator('select').selectOption('default/script')
    await newTask(page, node, zh ? '说明续传怎样工作，并给出例子' : 'Explain how resuming works, with an example', TEAMS.assistant, true)
    await until('it streams', async () => (await answer(page)).length > 420)
    await shot(page, `task-live-${view.tag}`)
    await waitStatus(page, 'COMPLETED')
    await page.locator('.hl-keyword, .hl-built').first().waitFor({ state: 'attached' })
    await shot(page, `task-end-${view.tag}`)
    await page.locator('[role=region]').hover()
    for (let i = 0; i < 4; i++) await page.mouse.wheel(0, -1000)
    await page.locator('[data-index="0"]').waitFor()
    await shot(page, `task-done-${view.tag}`)
    // The Teams take it for their own while it is there.
    await model.leave(node)
    await page.goto(`${page.url()}/plain`)
    await page.locator('article').first().waitFor()
    await shot(page, `plain-${view.tag}`)
    await newTask(page, node, '[[demo fail=rate_limit fail_after=8 retry_after=0]] hello', TEAMS.assistant)
    await waitStatus(page, 'FAILED', 45_000)
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
    await page.locator('main details summary').first().click()
    await page.locator('main textarea').fill('kind: Team\nmetadata: {name: x}\nspec: {collaborationModel: rout, members: [{botRef: {name: nobody}}]}')
    await page.locator('main section button').last().click()
    await page.locator('main section [role=alert] li').first().waitFor()
    await shot(page, `resources-problems-${view.tag}`)
    await page.goto(`${node.url}/tasks?text=nothing-like-this`)
    await page.locator('main p').first().waitFor()
    await shot(page, `tasks-none-${view.tag}`)
    await page.goto(`${node.url}/tasks/tsk_00000000000000000000000000`)
    await page.locator('main p').first().waitFor()
    await shot(page, `task-gone-${view.tag}`)
    await page.goto(`${node.url}/tasks`)
    await page.locator('main ul li').nth(3).waitFor()
    await page.keyboard.press('Control+k')
    await page.locator('[cmdk-item]').nth(3).waitFor()
    await shot(page, `palette-${view.tag}`)
    await page.keyboard.press('Escape')
    await page.locator('[role=dialog]').waitFor({ state: 'detached' })
    await page.keyboard.press('?')
    await page.locator('[role=dialog] dl').waitFor()
    await shot(page, `keys-${view.tag}`)
  },
}))
