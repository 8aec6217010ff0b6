// The last 24 hours of a device's link: a strip, and what it says in words.

import { useTranslation } from 'react-i18next'
import type { DeviceView, LinkSpan } from '../api/devices'
import { duration, number } from '../i18n/format'

const DAY_MS = 24 * 3_600_000

export interface Day {
  /** Times with a link, each from and to, 0 (a day ago) to 1 (now). */
  spans: [number, number][]
  /** From where on it is known. */
  known: number
  /** Part of the known time, 0 to 1. */
  linked: number
  /** Times without a link between two with one. */
  cuts: number
  longestCut: number
}

/** Null: nothing is known of the last day. */
export function dayOf(links: readonly LinkSpan[], here: number): Day | null {
  // The node's clock may be ahead of this one.
  const now = Math.max(here, ...links.map(({ from, to }) => Date.parse(to ?? from)))
  const spans = links
    .map(({ from, to }): [number, number] => [Date.parse(from), to === undefined ? now : Date.parse(to)])
    .map(([from, to]): [number, number] => [Math.max(from, now - DAY_MS), Math.min(to, now)])
    .filter(([from, to]) => to >= from)
    .sort((a, b) => a[0] - b[0])
  const first = spans[0]
  if (!first) return null
  let [linked, cuts, longestCut, reached] = [0, 0, 0, first[0]]
  for (const [from, to] of spans) {
    if (from > reached) {
      cuts += 1
      longestCut = Math.max(longestCut, from - reached)
    }
    linked += Math.max(0, to - Math.max(from, reached))
    reached = Math.max(reached, to)
  }
  const place = (at: number): number => 1 - (now - at) / DAY_MS
  return {
    spans: spans.map(([from, to]) => [place(from), place(to)]),
    known: place(first[0]),
    linked: now > first[0] ? linked / (now - first[0]) : 1,
    cuts,
    longestCut,
  }
}

const WIDTH = 480
/** A link of a minute is still seen. */
const LEAST = 1

export function DayStrip({ device, words = false }: { device: DeviceView; words?: boolean }) {
  const { t } = useTranslation()
  const day = dayOf(device.links ?? [], Date.now())
  if (!day) return <span className="text-text-3">–</span>
  const time = duration((1 - day.known) * DAY_MS)
  const share = t('devices.day.linked', { share: number(Math.round(day.linked * 100)), time })
  const cuts = day.cuts === 0 ? t('devices.day.noCuts') : t('devices.day.cuts', { count: day.cuts, longest: duration(day.longestCut) })
  const text = `${share}, ${cuts}`
  return (
    <span className="block">
      <svg viewBox={`0 0 ${WIDTH} 16`} preserveAspectRatio="none" role="img" aria-label={text} className={`block h-3 ${words ? 'w-full' : 'w-24'}`}>
        <title>{text}</title>
        <rect x="0" y="7" width={day.known * WIDTH} height="2" className="fill-line" />
        <rect x={day.known * WIDTH} y="0" width={(1 - day.known) * WIDTH} height="16" className="fill-sunken" />
        {day.spans.map(([from, to]) => (
          <rect key={from} x={Math.min(from * WIDTH, WIDTH - LEAST)} y="0" width={Math.max((to - from) * WIDTH, LEAST)} height="16" className="fill-success" />
        ))}
      </svg>
      {words && (
        <span aria-hidden className="mt-1 flex flex-wrap justify-between gap-x-4 text-meta text-text-3">
          <span>{t('devices.day.ago')}</span>
          <span>{text}</span>
          <span>{t('devices.day.now')}</span>
        </span>
      )}
    </span>
  )
}
