import { beforeEach, describe, expect, it, vi } from 'vitest'
import { ApiError, OfflineError } from '../src/api/auth'
import type { Block } from '../src/api/types'
import type { BlockUpdatedData, Frame } from '../src/task/frames'

const sent: unknown[] = []
let refuse: Error | null = null
vi.mock('../src/api/http', () => ({
  api: {
    answer: (_: string, body: unknown) => {
      sent.push(body)
      return refuse ? Promise.reject(refuse) : Promise.resolve()
    },
  },
}))

const { answer } = await import('../src/task/answering')
const { answerTo, grantOf, isOpen, NOTHING, pressed, questionsOf, shownInput, standing } = await import('../src/task/ask')
const { filesOf, linesOf, totals } = await import('../src/task/patch')
const { Row } = await import('../src/task/row')

const block = (more: Record<string, unknown>): Block => ({ id: '2.1.1', type: 'approval', status: 'pending', timestamp: 0, ...more })

describe('an ask', () => {
  it('stands where the block says', () => {
    const table: [Record<string, unknown>, string, boolean][] = [
      [{}, 'pending', false],
      [{ status: 'running', tool_output: 'allowed' }, 'allowed', true],
      [{ status: 'done', tool_output: 'allowed_always' }, 'allowed_always', false],
      [{ status: 'done', tool_output: 'denied' }, 'denied', false],
      [{ status: 'done', tool_output: 'expired' }, 'expired', false],
      [{ status: 'done', tool_output: 'withdrawn' }, 'withdrawn', false],
      [{ status: 'unknown', tool_output: null }, 'over', false],
      [{ status: 'done', tool_output: 'a word of a later version' }, 'over', false],
    ]
    for (const [more, state, underWay] of table) expect(standing(block(more))).toEqual({ state, underWay })
    expect(isOpen(block({}))).toBe(true)
    expect(isOpen(block({ type: 'tool' }))).toBe(false)
  })

  it('follows the frames, whatever its kind', () => {
    const at = new Date(0).toISOString()
    const base = { task_id: 't', subtask_id: 'm2', message_id: 2, at }
    const row = Row.of({ ...base, turn_id: 'x', role: 'ASSISTANT', kind: 'answer', sender: { type: 'TEAM' }, status: 'PENDING', seq: 1 } as never)
    const fold = (event: string, data: Record<string, unknown>): string => row.fold({ event, data: { ...base, ...data } } as unknown as Frame)
    fold('chat:start', { attempt: 1, keeps: 0, offset: 0, bot_name: 'b', shell_type: 'ClaudeCode', where: { kind: 'cluster' }, seq: 2 })
    fold('chat:block_created', { attempt: 1, block: block({ tool_output: null }), seq: 3 })
    fold('chat:block_created', { attempt: 1, block: block({ id: '2.1.2', type: 'subagent', content: '' }), seq: 4 })
    const change = (id: string, more: Partial<BlockUpdatedData>, seq: number) => fold('chat:block_updated', { attempt: 1, block_id: id, seq, ...more })
    change('2.1.1', { status: 'running', tool_output: 'denied' }, 5)
    change('2.1.2', { content: 'newest words' }, 6)
    expect(standing(row.view.blocks[0]!)).toEqual({ state: 'denied', underWay: true })
    expect(row.view.blocks[1]!.content).toBe('newest words')
    change('2.1.1', { status: 'done', tool_output: 'denied' }, 7)
    expect(standing(row.view.blocks[0]!)).toEqual({ state: 'denied', underWay: false })
  })

  it('shows a command, a file, an edit, and anything else as it is', () => {
    expect(shownInput({ command: 'ls -l', description: 'Looks around', timeout: 3 })).toEqual({ note: 'Looks around', code: 'ls -l', language: 'bash', rest: '{\n  "timeout": 3\n}' })
    expect(shownInput({ command: ['git', 'status'] }).code).toBe('git status')
    expect(shownInput({ file_path: 'src/a.rs', content: 'fn a() {}' })).toMatchObject({ code: 'fn a() {}', language: 'rust', rest: '{\n  "file_path": "src/a.rs"\n}' })
    expect(shownInput({ file_path: 'src/a.rs', content: 'x\n' }, '/srv/src/a.rs')).toMatchObject({ code: 'x', rest: '' })
    expect(shownInput({ file_path: 'a', old_string: 'x\ny', new_string: 'z' })).toMatchObject({ code: '-x\n-y\n+z', language: 'diff' })
    expect(shownInput({ url: 'https://example.org' }).language).toBe('json')
    expect(shownInput(null).code).toBe('null')
    expect(shownInput('words').code).toBe('words')
  })

  it('offers what the runner offers', () => {
    expect(grantOf(block({ always: null }))).toBeNull()
    expect(grantOf(block({ always: { tool: 'Bash', command: 'ls' } }))).toEqual({ tool: 'Bash', command: true })
    expect(grantOf(block({ tool_name: 'Write', always: {} }))).toEqual({ tool: 'Write', command: false })
  })
})

describe('questions', () => {
  const [one, several, free] = questionsOf(
    block({
      type: 'question',
      questions: [
        { id: 'a', header: 'Colour', text: 'Which?', options: [{ label: 'Red', description: 'r' }, { label: 'Blue' }], multiple: false },
        { id: 'b', text: 'Which ones?', options: [{ label: 'x' }, { label: 'y' }], multiple: true },
        { id: 'c', text: 'Why?', options: 'nonsense' },
      ],
    }),
  ) as [ReturnType<typeof questionsOf>[0], ReturnType<typeof questionsOf>[0], ReturnType<typeof questionsOf>[0]]
  it('have an answer once something is chosen or written', () => {
    expect(answerTo(one, NOTHING)).toBeNull()
    expect(answerTo(one, pressed(pressed(NOTHING, 'Red', false), 'Blue', false))).toEqual(['Blue'])
    expect(answerTo(several, pressed(pressed(NOTHING, 'y', true), 'x', true))).toEqual(['x', 'y'])
    expect(answerTo(several, pressed(pressed(NOTHING, 'y', true), 'y', true))).toBeNull()
    expect(answerTo(one, { chosen: [], own: true, text: ' ' })).toBeNull()
    expect(answerTo(one, { chosen: [], own: true, text: ' green ' })).toEqual(['green'])
    expect(answerTo(several, { chosen: ['x'], own: true, text: 'z' })).toEqual(['x', 'z'])
    expect(answerTo(free, NOTHING)).toBeNull()
    expect(answerTo(free, { ...NOTHING, text: 'so' })).toEqual(['so'])
    // What was written stays, and is not sent when an option is pressed after it.
    expect(answerTo(one, pressed({ chosen: [], own: true, text: 'green' }, 'Red', false))).toEqual(['Red'])
  })
  it('without anything in them are none', () => {
    expect(questionsOf(block({ questions: null }))).toEqual([])
  })
})

describe('an answer', () => {
  beforeEach(() => {
    sent.length = 0
    refuse = null
  })
  it('has one key however often it is sent, and a new one when it is another', async () => {
    refuse = new OfflineError('no')
    await expect(answer('t', 'b', { answer: 'allow' })).rejects.toBe(refuse)
    refuse = null
    expect(await answer('t', 'b', { answer: 'allow' })).toBe('taken')
    expect(await answer('t', 'b', { answer: 'deny' })).toBe('taken')
    const keys = sent.map((s) => (s as { client_message_id: string }).client_message_id)
    expect(keys[0]).toBe(keys[1])
    expect(keys[2]).not.toBe(keys[1])
  })
  it('that comes second is told so, and no failure', async () => {
    refuse = new ApiError({ status: 409, code: 'wrong_state', detail: 'this was answered already' })
    expect(await answer('t', 'c', { answer: 'allow' })).toBe('late')
    refuse = new ApiError({ status: 422, code: 'invalid', detail: 'no' })
    await expect(answer('t', 'c', { answer: 'allow' })).rejects.toBe(refuse)
  })
})

describe('a patch', () => {
  it('has its lines by their signs', () => {
    const patch = 'diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,3 @@\n same\n--- was a rule\n+++ more\n+new\n\\ No newline at end of file\ndiff --git a/y b/y\nnew file mode 100644\n'
    expect(linesOf(patch).map((l) => l.sort)).toEqual(['head', 'head', 'head', 'hunk', 'same', 'del', 'add', 'add', 'same', 'head', 'head'])
    expect(linesOf('-a\n+b\n c').map((l) => l.sort)).toEqual(['del', 'add', 'same'])
  })
  it('counts its files', () => {
    const files = filesOf(block({ type: 'diff', files: [{ path: 'a', change: 'added', added: 3, removed: 0 }, { path: 'b', change: 'moved about' }, { no: 1 }] }))
    expect(files.map((f) => [f.path, f.change, f.added])).toEqual([['a', 'added', 3], ['b', 'modified', null]])
    expect(totals(files)).toEqual({ added: 3, removed: 0 })
  })
})
