// All shards at once: whose by ink and pattern, used ones strong, what is not at rest outlined.

import { useState } from 'react'
import type { PointerEvent } from 'react'
import { useTranslation } from 'react-i18next'
import type { ShardView } from '../api/admin'
import { number } from '../i18n/format'
import { Mark } from '../parts/mark'
import { cells, corner, HEIGHT, shardAt, WIDTH } from './map'

const RESTLESS_MAX = 12

const isLost = (s: ShardView): boolean => s.state === 'orphaned' || s.state === 'unowned'

export function Shards({ shards, marks }: { shards: ShardView[]; marks: string[] }) {
  const { t } = useTranslation()
  const [at, setAt] = useState(0)
  const one = shards[at]
  const restless = shards.filter((s) => s.state !== 'owned')
  return (
    <div className="grid gap-6 md:grid-cols-[360px_minmax(0,1fr)]">
      <ShardMap shards={shards} marks={marks} at={at} point={setAt} />
      <div className="min-w-0">
        <label className="flex items-center gap-3">
          <span className="text-text-2">{t('cluster.shardNumber')}</span>
          <input
            className="field h-8 w-24 font-mono max-md:h-11"
            type="number"
            min={0}
            max={shards.length - 1}
            value={at}
            onChange={(e) => setAt(Math.max(0, Math.min(shards.length - 1, Math.trunc(Number(e.target.value)) || 0)))}
          />
        </label>
        {one && (
          <p className="mt-2" aria-live="off" data-shard={one.shard}>
            <Words shard={one} />
          </p>
        )}
        <table className="mt-5 w-full border-collapse text-left">
          <caption className="sr-only">{t('cluster.byOwner')}</caption>
          <thead>
            <tr className="text-meta text-text-3">
              <th className="border-b border-line py-1 font-normal">{t('cluster.owner')}</th>
              <th className="border-b border-line py-1 text-right font-normal">{t('cluster.shards')}</th>
              <th className="border-b border-line py-1 text-right font-normal">{t('cluster.entities')}</th>
              <th className="border-b border-line py-1 text-right font-normal">{t('cluster.epoch')}</th>
            </tr>
          </thead>
          <tbody>
            {marks.map((name, i) => (
              <Sum key={name} name={name} index={i} own={shards.filter((s) => s.owner === name)} />
            ))}
          </tbody>
        </table>
        {restless.length > 0 && (
          <ul className="mt-4" aria-label={t('cluster.restless')}>
            {restless.slice(0, RESTLESS_MAX).map((s) => (
              <li key={s.shard} className={`py-0.5 ${isLost(s) ? 'text-danger' : 'text-warn'}`}>
                <Words shard={s} />
              </li>
            ))}
            {restless.length > RESTLESS_MAX && <li className="text-text-3">{t('cluster.more', { count: restless.length - RESTLESS_MAX })}</li>}
          </ul>
        )}
        <p className="mt-4 text-meta text-text-3">{t('cluster.mapHint')}</p>
      </div>
    </div>
  )
}

function Words({ shard }: { shard: ShardView }) {
  const { t } = useTranslation()
  const owner = shard.owner ?? t('cluster.nobody')
  const parts = [
    t('cluster.shardIs', { shard: shard.shard, owner, epoch: number(shard.epoch) }),
    shard.entities === undefined ? null : t('cluster.inMemory', { count: shard.entities }),
    shard.moving_to ? t('cluster.movesTo', { node: shard.moving_to }) : null,
  ]
  return <>{parts.filter((p) => p !== null).join(t('cluster.comma'))}</>
}

function Sum({ name, index, own }: { name: string; index: number; own: ShardView[] }) {
  const entities = own.reduce((sum, s) => sum + (s.entities ?? 0), 0)
  const epoch = own.reduce((max, s) => Math.max(max, s.epoch), 0)
  return (
    <tr className="tabular-nums">
      <th scope="row" className="border-b border-line py-1.5 text-left font-normal">
        <span className="flex items-center gap-2">
          <Mark index={index} />
          {name}
        </span>
      </th>
      {[own.length, entities, epoch].map((n, i) => (
        <td key={i} className="border-b border-line py-1.5 text-right font-mono">
          {number(n)}
        </td>
      ))}
    </tr>
  )
}

interface MapProps {
  shards: ShardView[]
  marks: string[]
  at: number
  point: (shard: number) => void
}

function ShardMap({ shards, marks, at, point }: MapProps) {
  const { t } = useTranslation()
  const moved = (e: PointerEvent<SVGSVGElement>): void => {
    const box = e.currentTarget.getBoundingClientRect()
    const found = shardAt(((e.clientX - box.left) / box.width) * WIDTH, ((e.clientY - box.top) / box.height) * HEIGHT)
    if (found !== null && found < shards.length) point(found)
  }
  const [x, y] = corner(at)
  const label = t('cluster.mapLabel', { shards: number(shards.length), owners: number(marks.length) })
  return (
    <svg role="img" aria-label={label} viewBox={`-2 -2 ${WIDTH + 4} ${HEIGHT + 4}`} className="w-full max-w-[360px] touch-pan-y select-none" onPointerMove={moved} onPointerDown={moved}>
      <defs>
        {marks.map((name, i) => (
          <Fill key={name} index={i} />
        ))}
        <pattern id="shard-lost" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <rect width="1.6" height="4" fill="var(--danger)" />
        </pattern>
      </defs>
      {marks.map((name, i) => {
        const own = shards.filter((s) => s.owner === name)
        return (
          <g key={name}>
            <path d={cells(own.filter((s) => !s.entities))} fill={`url(#shard-${i})`} opacity={0.3} />
            <path d={cells(own.filter((s) => s.entities))} fill={`url(#shard-${i})`} />
          </g>
        )
      })}
      <path d={cells(shards.filter(isLost))} fill="url(#shard-lost)" stroke="var(--danger)" strokeWidth="0.8" />
      <path d={cells(shards.filter((s) => s.state === 'moving'))} fill="none" stroke="var(--warn)" strokeWidth="1.6" />
      <rect x={x - 1} y={y - 1} width="11" height="11" fill="none" stroke="var(--text)" strokeWidth="1.4" />
    </svg>
  )
}

/** Ink and pattern of an owner: with the next eight owners the pattern changes. */
function Fill({ index }: { index: number }) {
  const ink = `var(--ink-${(index % 8) + 1})`
  const shapes = [
    <rect key="f" width="4" height="4" fill={ink} />,
    <path key="f" d="M0 0h4v2.4H0z" fill={ink} />,
    <path key="f" d="M0 0h2.4v4H0z" fill={ink} />,
    <circle key="f" cx="2" cy="2" r="1.7" fill={ink} />,
  ]
  return (
    <pattern id={`shard-${index}`} width="4" height="4" patternUnits="userSpaceOnUse">
      {shapes[index % shapes.length]}
    </pattern>
  )
}
