import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { en } from '../src/i18n/en'
import { zh } from '../src/i18n/zh'

type Tree = { [key: string]: string | string[] | Tree }

function flat(tree: Tree, prefix = ''): Map<string, string> {
  const words = new Map<string, string>()
  for (const [key, value] of Object.entries(tree)) {
    if (typeof value === 'string') words.set(prefix + key, value)
    else if (Array.isArray(value)) words.set(prefix + key, value.join(' '))
    else for (const [k, v] of flat(value, `${prefix}${key}.`)) words.set(k, v)
  }
  return words
}

const holes = (text: string): string[] => (text.match(/\{\{\w+\}\}/g) ?? []).sort()

describe('words', () => {
  const english = flat(en)
  const chinese = flat(zh)
  it('are the same in both languages, with the same holes', () => {
    expect([...chinese.keys()].sort()).toEqual([...english.keys()].sort())
    for (const [key, text] of english) expect(holes(chinese.get(key)!), key).toEqual(holes(text))
  })
  it('are all used', () => {
    const src = join(import.meta.dirname, '../src')
    const code = readdirSync(src, { recursive: true, encoding: 'utf8' })
      .filter((f) => /\.tsx?$/.test(f) && !f.startsWith('i18n'))
      .map((f) => readFileSync(join(src, f), 'utf8'))
      .join('\n')
    // Some keys are put together: `status.${..}` uses all of `status`.
    const groups = [...code.matchAll(/[`'"]([a-z][\w.]*)\.\$\{/g)].map((m) => `${m[1]}.`)
    const unused = [...english.keys()].filter((key) => {
      const plain = key.replace(/_(zero|one|other)$/, '')
      return !code.includes(`'${plain}'`) && !groups.some((g) => key.startsWith(g))
    })
    expect(unused).toEqual([])
  })
})

describe('tokens', () => {
  const css = readFileSync(join(import.meta.dirname, '../src/styles/tokens.css'), 'utf8')
  const themes = css.split(":root[data-theme='dark']")
  const colours = (part: string): Map<string, string> =>
    new Map([...part.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map((m) => [m[1]!, m[2]!]))
  const light = (hex: string): number => {
    const [r, g, b] = [1, 3, 5].map((i) => {
      const c = parseInt(hex.slice(i, i + 2), 16) / 255
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
    }) as [number, number, number]
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const contrast = (a: string, b: string): number => {
    const [x, y] = [light(a), light(b)].sort((m, n) => n - m) as [number, number]
    return (x + 0.05) / (y + 0.05)
  }
  it.each([0, 1])('have enough contrast in theme %i', (i) => {
    const c = colours(themes[i]!)
    const of = (fg: string, bg: string): number => contrast(c.get(fg)!, c.get(bg)!)
    for (const bg of ['bg', 'surface', 'sunken']) {
      expect(of('text', bg)).toBeGreaterThan(7)
      for (const fg of ['text-2', 'text-3', 'accent', 'success', 'warn', 'danger', 'think']) {
        expect(of(fg, bg), `${fg} on ${bg}`).toBeGreaterThan(4.5)
      }
      expect(of('edge', bg), `edge on ${bg}`).toBeGreaterThan(3)
    }
    expect(of('on-accent', 'accent')).toBeGreaterThan(4.5)
    expect(of('accent', 'accent-weak')).toBeGreaterThan(4.5)
    for (let ink = 1; ink <= 8; ink++) expect(of(`ink-${ink}`, 'bg')).toBeGreaterThan(3)
  })
})
