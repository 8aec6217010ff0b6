// What is said of devices in a line.

import type { DevicePath, DeviceTool, DeviceView } from '../api/devices'
import { millis } from '../i18n/format'

/** Keeps a program and its version in one line. */
const NBSP = '\u00a0'

/** The alias, where there is one. */
export const called = (d: DeviceView): string => d.alias || d.name

export const toolWords = (tools: readonly DeviceTool[]): string => tools.map((t) => (t.version ? `${t.name}${NBSP}${t.version}` : t.name)).join(', ')

const CARRIERS: Record<DevicePath['carrier'], string> = { quic: 'QUIC', websocket: 'WebSocket', memory: 'memory' }

/** "QUIC 0.4 ms", by the names that the protocols have everywhere. */
export const pathWords = ({ carrier, rtt_us: rtt }: DevicePath): string => [CARRIERS[carrier], rtt === undefined ? '' : millis(rtt).replace(' ', NBSP)].filter(Boolean).join(NBSP)

export const systemWords = (d: DeviceView): string => [d.os, d.arch].filter(Boolean).join(' / ')

export const labelLines = (labels: Record<string, string>): string =>
  Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .sort()
    .join('\n')

/** Labels of a text, or the number of the line that is none. */
export function labelsOf(text: string): { labels: Record<string, string> } | { line: number } {
  const labels: Record<string, string> = {}
  for (const [i, raw] of text.split('\n').entries()) {
    const line = raw.trim()
    if (line === '') continue
    const at = line.indexOf('=')
    const key = line.slice(0, at).trim()
    if (at < 1 || key === '') return { line: i + 1 }
    labels[key] = line.slice(at + 1).trim()
  }
  return { labels }
}

/** "9:07" until then; null: it is over. */
export function leftUntil(end: string, now: number): string | null {
  const seconds = Math.ceil((Date.parse(end) - now) / 1000)
  if (seconds <= 0) return null
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
}
