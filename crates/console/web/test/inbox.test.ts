import { describe, expect, it } from 'vitest'
import type { OpenAsk } from '../src/api/types'
import { keep, SETTLED_MAX } from '../src/inbox/kept'
import { standing } from '../src/task/ask'

const ask = (task: string, block: string, more: Record<string, unknown> = {}): OpenAsk => ({
  task_id: task,
  title: task,
  team_name: 'devs',
  team_namespace: 'default',
  subtask_id: 'm',
  attempt: 1,
  bot_name: 'dev',
  where: { kind: 'cluster' },
  block: { id: block, type: 'approval', status: 'pending', timestamp: 0, ...more },
})
const nobody = (): undefined => undefined
const states = (shown: readonly OpenAsk[]): string[] => shown.map((one) => `${one.task_id}.${one.block.id} ${standing(one.block).state}`)

describe('the inbox', () => {
  it('keeps what was settled in its place, and says how', () => {
    const all = [ask('a', '2.1.1'), ask('b', '2.1.1', { expires_at: '2026-01-01T00:00:00.000Z' }), ask('c', '2.1.1')]
    let shown = keep([], all, nobody, 0)
    expect(states(shown)).toEqual(['a.2.1.1 pending', 'b.2.1.1 pending', 'c.2.1.1 pending'])
    expect(keep(shown, all.map((one) => ({ ...one })), nobody, 0), 'nothing is drawn anew').toBe(shown)
    const said = (one: OpenAsk): string | undefined => (one.task_id === 'a' ? 'allowed' : undefined)
    shown = keep(shown, [ask('d', '2.1.1')], said, Date.parse('2026-01-02T00:00:00Z'))
    expect(states(shown)).toEqual(['a.2.1.1 allowed', 'b.2.1.1 expired', 'c.2.1.1 over', 'd.2.1.1 pending'])
    expect(keep(shown, [ask('d', '2.1.1')], nobody, 0)).toBe(shown)
  })

  it('tells blocks of different Tasks apart', () => {
    const shown = keep([], [ask('a', '2.1.1'), ask('b', '2.1.1')], nobody, 0)
    expect(states(keep(shown, [ask('b', '2.1.1')], nobody, 0))).toEqual(['a.2.1.1 over', 'b.2.1.1 pending'])
  })

  it('does not grow for ever, and drops nothing that waits', () => {
    const waits = ask('w', '2.1.1')
    let shown = keep([], [waits], nobody, 0)
    for (let i = 0; i < SETTLED_MAX + 20; i++) shown = keep(shown, [waits, ask('t', `2.1.${i}`)], nobody, 0)
    expect(shown.length).toBeLessThanOrEqual(SETTLED_MAX + 2)
    expect(states(shown)[0]).toBe('w.2.1.1 pending')
  })
})
