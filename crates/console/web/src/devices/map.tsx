// Where devices are linked, at a glance: a band for each node, a tile for each device. The table
// below says the same in words, so the map is for eyes and pointers alone.

import { Link } from '@tanstack/react-router'
import { useTranslation } from 'react-i18next'
import type { DeviceView, Presence } from '../api/devices'
import { SlotDots } from './presence'
import { called, pathWords } from './words'

/** From here on a tile has no room for a name. */
const CROWD = 60

const EDGE: Record<Presence, string> = {
  online: 'border-solid border-success',
  away: 'border-dashed border-edge text-text-2',
  offline: 'border-dotted border-edge text-text-3',
  revoked: 'hidden',
}

/** Devices by the node where their link ends; the last band has those without one. */
export function bands(items: readonly DeviceView[]): { node: string | null; devices: DeviceView[] }[] {
  const here = items.filter((d) => d.status !== 'revoked')
  const nodeOf = (d: DeviceView): string | null => (d.status === 'online' ? (d.node ?? null) : null)
  const nodes = [...new Set(here.map(nodeOf))].sort((a, b) => (a === null ? 1 : b === null ? -1 : a.localeCompare(b)))
  return nodes.map((node) => ({ node, devices: here.filter((d) => nodeOf(d) === node) }))
}

export function DeviceMap({ items }: { items: DeviceView[] }) {
  const { t } = useTranslation()
  const all = bands(items)
  const crowded = all.reduce((sum, band) => sum + band.devices.length, 0) > CROWD
  return (
    <div aria-hidden data-map className="mb-4 grid gap-2">
      {all.map(({ node, devices }) => (
        <div key={node ?? ''} data-band={node ?? ''} className="flex items-start gap-3 rounded-panel bg-sunken px-3 py-2 max-md:flex-col max-md:gap-1">
          <span className="w-28 shrink-0 truncate text-meta leading-7 text-text-3">{node ?? t('devices.noLink')}</span>
          <span className={`flex min-w-0 flex-wrap ${crowded ? 'gap-0.5 py-2' : 'gap-2'}`}>
            {devices.map((device) => (
              <Tile key={device.id} device={device} small={crowded} />
            ))}
          </span>
        </div>
      ))}
    </div>
  )
}

function Tile({ device, small }: { device: DeviceView; small: boolean }) {
  const { t } = useTranslation()
  const { slots, slots_used: used, status, path } = device
  const title = [`${called(device)}: ${t(`devices.presence.${status}`)}`, t('devices.slotsOf', { used, all: slots }), ...(path ? [pathWords(path)] : [])].join(', ')
  const to = { to: '/devices/$id', params: { id: device.id }, tabIndex: -1, title, 'data-tile': status } as const
  if (small) return <Link {...to} className={`size-3 border ${EDGE[status]} ${used > 0 ? 'bg-accent' : 'bg-surface'}`} />
  return (
    <Link {...to} className={`flex h-7 max-w-48 items-center gap-2 rounded-control border bg-surface px-2 text-meta hover:border-accent ${EDGE[status]}`}>
      <span className="truncate">{called(device)}</span>
      <SlotDots device={device} />
    </Link>
  )
}
