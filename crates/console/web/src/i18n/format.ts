// Figures, times and durations in the reader's language.

import i18next from 'i18next'

const locale = (): string => (i18next.language === 'zh' ? 'zh-CN' : 'en')

export const number = (n: number): string => new Intl.NumberFormat(locale()).format(n)

export const clock = (at: string | number): string =>
  new Intl.DateTimeFormat(locale(), { hour: '2-digit', minute: '2-digit' }).format(new Date(at))

export const fullTime = (at: string | number): string =>
  new Intl.DateTimeFormat(locale(), { dateStyle: 'medium', timeStyle: 'medium' }).format(new Date(at))

const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
  ['second', 1],
]

function unit(seconds: number, of: string): string {
  return new Intl.NumberFormat(locale(), {
    style: 'unit',
    unit: of,
    unitDisplay: i18next.language === 'zh' ? 'short' : 'narrow',
  }).format(seconds)
}

/** "0.4 ms", "32 ms". */
export function millis(us: number): string {
  const ms = us / 1_000
  return new Intl.NumberFormat(locale(), { style: 'unit', unit: 'millisecond', unitDisplay: 'short', maximumFractionDigits: ms < 10 ? 1 : 0 }).format(ms)
}

/** "12s", "3m", "2h", "4d". */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  for (const [name, size] of STEPS) {
    if (seconds >= size) return unit(Math.floor(seconds / size), name)
  }
  return unit(0, 'second')
}

export const age = (at: string): string => duration(Date.now() - Date.parse(at))
