import { describe, expect, it } from 'vitest'
import { match, written } from '../src/app/commands'
import type { Command } from '../src/app/commands'
import { initials, score } from '../src/app/search-words'
import { linesOf } from '../src/parts/colour-lines'
import { Parser } from '../src/parts/parsed'

describe('the palette', () => {
  it('finds words, beginnings and initials', () => {
    expect(score('New Task', 'new')).toBe(1)
    expect(score('New Task', 'task')).toBeGreaterThan(score('Restart', 'tart'))
    expect(score('New Task', 'task new')).toBeGreaterThan(0)
    expect(score('New Task', 'nt')).toBeGreaterThan(0)
    expect(score('New Task', 'xyz')).toBe(0)
    expect(score('新建任务', 'xjrw')).toBeGreaterThan(0)
    expect(score('新建任务', '任务')).toBeGreaterThan(score('新建任务', 'rw'))
  })
  it('knows the initials of Chinese words', () => {
    expect(initials('停止')).toBe('tz')
    expect(initials('编辑并重新运行')).toMatch(/^bjb[cz]xyx$/)
    expect(initials('a 资源')).toBe('a zy')
  })
})

describe('keys', () => {
  const command = (id: string, keys: string): Command => ({ id, keys, label: id, group: 'go', run: () => undefined })
  const all = [command('tasks', 'g t'), command('new', 'c'), command('stop', 'mod+.')]
  const press = (key: string, more = {}) => written({ key, ctrlKey: false, metaKey: false, altKey: false, isComposing: false, ...more })
  it('are one press, or two in a row', () => {
    expect(match(all, 'c', null, true)).toEqual({ run: all[1] })
    expect(match(all, 'g', null, true)).toEqual({ begins: 'g' })
    expect(match(all, 't', 'g', true)).toEqual({ run: all[0] })
    expect(match(all, 't', null, true)).toBeNull()
    expect(match(all, 'c', 'g', true)).toEqual({ run: all[1] })
  })
  it('of one letter can be switched off', () => {
    expect(match(all, 'c', null, false)).toBeNull()
    expect(match(all, 'g', null, false)).toBeNull()
    expect(match(all, 'mod+.', null, false)).toEqual({ run: all[2] })
  })
  it('of input methods and Alt are nobody’s', () => {
    expect(press('C')).toBe('c')
    expect(press('.', { metaKey: true })).toBe('mod+.')
    expect(press('c', { isComposing: true })).toBeNull()
    expect(press('c', { altKey: true })).toBeNull()
    expect(press('Enter')).toBeNull()
  })
})

describe('coloured lines', () => {
  it('hold the text as it was, and colours over lines', () => {
    const html = 'a <span class="hljs-comment">/* &lt;b&gt;\nc &amp;<span class="hljs-title function_">d</span> */</span>\n\n&quot;&#x27;'
    const lines = linesOf(html)
    expect(lines.map((line) => line.map(([text]) => text).join('')).join('\n')).toBe('a /* <b>\nc &d */\n\n"\'')
    expect(lines[0]!.at(-1)).toEqual(['/* <b>', 'comment'])
    expect(lines[1]).toEqual([['c &', 'comment'], ['d', 'title'], [' */', 'comment']])
  })
})

describe('the parser', () => {
  it('does so much in a task, the rest later, the last first, each once', () => {
    let now = 0
    const made: string[] = []
    const tasks: (() => void)[] = []
    const parser = new Parser(
      (source) => {
        now += 5
        made.push(source)
        return source as never
      },
      (callback) => tasks.push(callback),
      () => now,
    )
    expect(parser.take('a')).toBe('a')
    expect(parser.take('b')).toBe('b')
    expect(parser.take('c')).toBeNull()
    expect(parser.take('a'), 'known ones cost nothing').toBe('a')
    const done: string[] = []
    for (const source of ['c', 'd', 'e']) parser.soon(source, () => done.push(source))
    parser.soon('f', () => done.push('f'))()
    expect(tasks.length).toBe(1)
    tasks.shift()!()
    expect(done).toEqual(['e', 'd'])
    tasks.shift()!()
    expect(done).toEqual(['e', 'd', 'c'])
    expect(made).toEqual(['a', 'b', 'e', 'd', 'c'])
  })
})
