import { describe, expect, it } from 'vitest'
import type { DeviceView } from '../src/api/devices'
import { dayOf } from '../src/devices/day'
import { bands } from '../src/devices/map'
import { called, labelLines, labelsOf, leftUntil, systemWords, toolWords } from '../src/devices/words'

const device = (more: Partial<DeviceView>): DeviceView => ({
  id: 'dev_1',
  name: 'vm',
  alias: '',
  status: 'online',
  draining: false,
  is_default: false,
  labels: {},
  slots: 5,
  slots_used: 0,
  os: 'linux',
  arch: 'x86_64',
  host: 'vm',
  build: '0.1.0',
  tools: [],
  links: [],
  enrolled_at: '2026-01-01T00:00:00Z',
  work: [],
  ...more,
})

describe('the last day of a link', () => {
  const now = Date.parse('2026-01-02T00:00:00Z')
  const at = (hours: number): string => new Date(now - hours * 3_600_000).toISOString()
  it('is not known of a device that never came', () => {
    expect(dayOf([], now)).toBeNull()
    expect(dayOf([{ from: at(48), to: at(30) }], now)).toBeNull()
  })
  it('has its cuts, and is measured from where it is known', () => {
    const day = dayOf([{ from: at(12), to: at(9) }, { from: at(6), to: at(4) }, { from: at(3) }], now)
    expect(day).toEqual({ spans: [[0.5, 0.625], [0.75, 1 - 4 / 24], [0.875, 1]], known: 0.5, linked: 8 / 12, cuts: 2, longestCut: 3 * 3_600_000 })
  })
  it('is cut where it begins, and counts what overlaps once', () => {
    const day = dayOf([{ from: at(40), to: at(6) }, { from: at(12) }], now)
    expect(day).toMatchObject({ spans: [[0, 0.75], [0.5, 1]], known: 0, linked: 1, cuts: 0 })
    expect(dayOf([{ from: at(0) }], now)).toMatchObject({ known: 1, linked: 1, cuts: 0 })
  })
})

describe('a device', () => {
  it('is called by its alias, where it has one', () => {
    expect(called(device({}))).toBe('vm')
    expect(called(device({ alias: 'the big one' }))).toBe('the big one')
  })
  it('says its tools and system in a line', () => {
    expect(toolWords([{ name: 'claude', version: '2.1.330' }, { name: 'sh', version: '' }])).toBe('claude\u00a02.1.330, sh')
    expect(systemWords(device({}))).toBe('linux / x86_64')
    expect(systemWords(device({ os: '', arch: '' }))).toBe('')
  })
  it('has labels that are read as they are written', () => {
    const labels = { gpu: '1', zone: 'a=b', empty: '' }
    expect(labelLines(labels)).toBe('empty=\ngpu=1\nzone=a=b')
    expect(labelsOf(labelLines(labels))).toEqual({ labels })
    expect(labelsOf('\n gpu = 1 \n\n')).toEqual({ labels: { gpu: '1' } })
    expect(labelsOf('gpu=1\nnothing')).toEqual({ line: 2 })
    expect(labelsOf('=1')).toEqual({ line: 1 })
  })
})

describe('an invitation', () => {
  it('counts down to its end', () => {
    const end = '2026-01-01T00:10:00Z'
    const at = (text: string): number => Date.parse(text)
    expect(leftUntil(end, at('2026-01-01T00:00:00Z'))).toBe('10:00')
    expect(leftUntil(end, at('2026-01-01T00:09:52.400Z'))).toBe('0:08')
    expect(leftUntil(end, at(end))).toBeNull()
  })
})

describe('the map', () => {
  it('has a band for each node, those without a link at the end, and none that was revoked', () => {
    const items = [
      device({ id: 'a', status: 'away', node: 'n1' }),
      device({ id: 'b', node: 'n2' }),
      device({ id: 'c', node: 'n1' }),
      device({ id: 'd', status: 'revoked' }),
      device({ id: 'e', node: 'n2' }),
    ]
    expect(bands(items).map(({ node, devices }) => [node, devices.map((d) => d.id).join()])).toEqual([
      ['n1', 'c'],
      ['n2', 'b,e'],
      [null, 'a'],
    ])
    expect(bands([])).toEqual([])
  })
})
