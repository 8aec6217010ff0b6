import { renderToStaticMarkup } from 'react-dom/server'
import ReactMarkdown from 'react-markdown'
import remarkGfm from 'remark-gfm'
import remarkMath from 'remark-math'
import { describe, expect, it } from 'vitest'
import { dollarsAlone } from '../src/parts/alone'
import { fenceOf, LIST_MIN, SEGMENT_MIN, Segmenter, TABLE_ROWS, TAIL_MAX, withDefinitions } from '../src/task/segments'
import { rng } from './world'

const html = (source: string): string =>
  renderToStaticMarkup(<ReactMarkdown remarkPlugins={[remarkGfm, [remarkMath, { singleDollarTextMath: false }], dollarsAlone]}>{source}</ReactMarkdown>)

const prose = 'Words of a paragraph that goes on for a while, **bold** and `code`. '.repeat(6)
const PARTS = [
  prose,
  `# Heading\n\n${prose}`,
  `Setext\n======\n${prose}`,
  '```rust\nfn main() {\n\n    println!("x");\n}\n```',
  '~~~\n```\nnot the end\n~~~',
  '````md\n```js\nx\n```\n````',
  `> quoted\n> more\n\n> another`,
  '- one\n- two\n\n  indented paragraph\n\n  ```\n  fence in list\n\n  more\n  ```\n- three',
  '1. first\n2. second\n   - nested\n\n   text\n3. third',
  '| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |',
  '$$\nx = 1\n\n\\sum_{n} n\n$$',
  '$$$\ny\n$$\nz\n$$$$',
  '$$ is the id of the process\n$$$ costs much',
  'In a line $$a + b$$ and $5.',
  '$$x$$ begins a line',
  '    indented code\n\n    goes on',
  '<pre>\n\nraw\n\n</pre>',
  '<!-- a comment\n\nthat goes on -->',
  '中文段落，**加粗**，`代码`。',
  '---',
  '* * *',
  'A line with [link][ref] in it.',
  '- [ ] task\n- [x] done',
]

function cut(text: string, random: () => number): Segmenter {
  const segmenter = new Segmenter()
  for (let at = 0; at < text.length; ) {
    at = Math.min(text.length, at + 1 + Math.floor(random() * 60))
    segmenter.update(text.slice(0, at))
  }
  return segmenter
}

const pieces = (s: Segmenter): string[] => [...s.settled, s.tail].filter((x) => x.trim() !== '')

describe('segments', () => {
  it('parse to the same as the whole', () => {
    for (let seed = 0; seed < 60; seed++) {
      const random = rng(seed)
      const parts = Array.from({ length: 32 }, () => PARTS[Math.floor(random() * PARTS.length)]!)
      // Two lists side by side would be one list.
      const text = parts.flatMap((p) => [p, `para ${p.length}`]).join('\n\n')
      const s = cut(text, random)
      const whole = html(text)
      const joined = pieces(s).map(html).join('\n')
      expect(joined, `seed ${seed}`).toBe(whole)
      expect(s.settled.join('') + s.tail).toBe(text)
      expect(s.settled.length).toBeGreaterThan(1)
    }
  })

  it('only dollars alone open a block of formulas', () => {
    expect(html('$$ is the id\n\n**bold**')).toBe('<p>$$ is the id</p>\n<p><strong>bold</strong></p>')
    expect(html('$$\nx\n$$\n\n**bold**')).toContain('language-math')
    expect(html('text\n$$\nx\n$$')).toContain('language-math')
  })

  it('do not depend on how the text arrived', () => {
    for (let seed = 0; seed < 50; seed++) {
      const random = rng(seed)
      const text = Array.from({ length: 20 }, () => PARTS[Math.floor(random() * PARTS.length)]!).join('\n\n')
      const a = cut(text, rng(seed + 1))
      const b = new Segmenter()
      b.update(text)
      expect(a.settled).toEqual(b.settled)
    }
  })

  it('cut prose after the least size only', () => {
    const text = `${prose}\n\n`.repeat(20)
    const s = cut(text, rng(1))
    for (const piece of s.settled) expect(piece.length).toBeGreaterThanOrEqual(SEGMENT_MIN)
  })

  it('cut a long list at a top-level item and keep its numbers', () => {
    const items = Array.from({ length: 60 }, (_, i) => `${i + 1}. ${prose}\n\n   more of it`)
    const s = cut(items.join('\n\n'), rng(2))
    expect(s.settled.length).toBeGreaterThan(3)
    for (const piece of s.settled) expect(piece.length).toBeGreaterThanOrEqual(LIST_MIN)
    const second = /^(\d+)\./.exec(s.settled[1]!)![1]!
    expect(html(s.settled[1]!)).toContain(`<ol start="${second}">`)
  })

  it('a fence is a segment of its own and known while it is open', () => {
    const s = new Segmenter()
    s.update('Text before.\n```py title\nprint(1)\n')
    expect(s.settled).toEqual(['Text before.\n'])
    expect(s.openFence).toEqual({ info: 'py title', code: 'print(1)\n' })
    s.update('Text before.\n```py title\nprint(1)\n```\nafter')
    expect(s.openFence).toBeNull()
    expect(s.settled).toEqual(['Text before.\n', '```py title\nprint(1)\n```\n'])
    expect(s.tail).toBe('after')
  })

  it('definitions reach the segments that may use them', () => {
    const s = new Segmenter()
    s.update('A [link][ref].\n\n[ref]: https://example.org\n\n')
    expect(s.definitions).toEqual(['[ref]: https://example.org'])
    expect(html(withDefinitions('See [this][ref].', s.definitions))).toContain('href="https://example.org"')
    expect(withDefinitions('No use of it.', s.definitions)).toBe('No use of it.')
  })

  it('cut what has no boundary, wherever the pieces end', () => {
    const words = 'word '.repeat(6_000)
    const signs = '👩‍👩‍👧‍👦汉字'.repeat(1_500)
    const lines = 'a line without a blank one after it\n'.repeat(900)
    const tight = Array.from({ length: 700 }, (_, i) => `${i + 1}. an item of a list`).join('\n')
    for (const text of [words, signs, lines, tight, `${prose}\n${words}\nend`]) {
      const s = cut(text, rng(3))
      const whole = new Segmenter()
      whole.update(text)
      expect(s.settled).toEqual(whole.settled)
      expect(s.settled.join('') + s.tail).toBe(text)
      for (const piece of [...s.settled, s.tail]) {
        expect(piece.length).toBeLessThanOrEqual(TAIL_MAX + 40)
        expect(() => encodeURIComponent(piece), 'no half signs').not.toThrow()
      }
    }
  })

  it('cut a long table and show its head again', () => {
    const rows = Array.from({ length: 130 }, (_, i) => `| ${i} | row |`)
    const text = ['Before.', '', '| n | what |', '| --- | --- |', ...rows, '', 'After.'].join('\n')
    const s = cut(text, rng(4))
    expect(s.settled.join('') + s.tail).toBe(text)
    const all = [...s.settled, s.tail].map((source, i) => html(s.head(i) + source))
    expect(all.length).toBe(Math.ceil(130 / TABLE_ROWS))
    expect(all.join('').match(/<td>row<\/td>/g)!.length).toBe(130)
    expect(all.every((part) => part.includes('<th>what</th>'))).toBe(true)
  })

  it('give out as many as were asked for, and the same in the end', () => {
    const text = Array.from({ length: 40 }, (_, i) => PARTS[i % PARTS.length]!).join('\n\n')
    const whole = new Segmenter()
    whole.update(text)
    const s = new Segmenter()
    for (let n = 0; n === 0 || s.pending; n++) {
      s.update(text, 1)
      expect(s.settled.length).toBeLessThanOrEqual(n + 1)
      expect(text.startsWith(s.settled.join('') + s.tail)).toBe(true)
    }
    expect(s.settled).toEqual(whole.settled)
    expect(s.tail).toBe(whole.tail)
  })

  it('tell of a tail that begins', () => {
    const s = new Segmenter()
    expect(s.update('```\nx\n```\n')).toBe(true)
    expect(s.tail).toBe('')
    expect(s.update('```\nx\n```\nafter')).toBe(true)
    expect(s.update('```\nx\n```\nafter it')).toBe(false)
  })

  it('of a fence alone are code', () => {
    expect(fenceOf('```py title\nprint(1)\n\n```\n')).toEqual({ info: 'py title', code: 'print(1)\n' })
    expect(fenceOf('~~~\n~~~\n')).toEqual({ info: '', code: '' })
    expect(fenceOf('````md\n```js\nx\n```\n````\n')).toEqual({ info: 'md', code: '```js\nx\n```' })
    expect(fenceOf('text\n```\nx\n```\n')).toBeNull()
    expect(fenceOf('```\nopen\n')).toBeNull()
    for (const part of PARTS) {
      const code = fenceOf(`${part}\n`)?.code
      if (code !== undefined) expect(html(part)).toContain(renderToStaticMarkup(<code>{`${code}\n`}</code>).slice(6, -7))
    }
  })
})
