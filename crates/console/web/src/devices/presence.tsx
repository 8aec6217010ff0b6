// Whether a device is there: a glyph, a colour and a word; and how full it is.

import { useTranslation } from 'react-i18next'
import type { DeviceView, Presence } from '../api/devices'

const COLOUR: Record<Presence, string> = { online: 'text-success', away: 'text-text-2', offline: 'text-text-3', revoked: 'text-danger' }

const GLYPH: Record<Presence, React.ReactNode> = {
  online: <circle cx="8" cy="8" r="5" fill="currentColor" />,
  away: (
    <g fill="none" stroke="currentColor" strokeWidth="1.5">
      <circle cx="8" cy="8" r="6" strokeDasharray="3 2.2" />
      <path d="M9.8 5.6a3 3 0 1 0 .6 4.2 2.6 2.6 0 0 1-.6-4.2z" fill="currentColor" stroke="none" />
    </g>
  ),
  offline: <circle cx="8" cy="8" r="5" fill="none" stroke="currentColor" strokeWidth="1.5" />,
  revoked: <path d="M3.5 3.5l9 9m0-9-9 9" fill="none" stroke="currentColor" strokeWidth="1.6" />,
}

export function PresenceMark({ device }: { device: DeviceView }) {
  const { t } = useTranslation()
  const { status } = device
  return (
    <span className={`inline-flex items-center gap-1.5 whitespace-nowrap ${COLOUR[status]}`}>
      <svg width="16" height="16" viewBox="0 0 16 16" aria-hidden className="shrink-0">
        {GLYPH[status]}
      </svg>
      {t(`devices.presence.${status}`)}
      {device.draining && <span className="text-warn">{`· ${t('devices.draining')}`}</span>}
    </span>
  )
}

/** Taken slots are filled. */
export function Slots({ device }: { device: DeviceView }) {
  const { t } = useTranslation()
  const { slots, slots_used: used, queued = 0 } = device
  const text = [t('devices.slotsOf', { used, all: slots }), ...(queued ? [t('devices.queued', { count: queued })] : [])].join(', ')
  return (
    <span className="inline-flex items-center gap-2 whitespace-nowrap" title={text}>
      <span className="sr-only">{text}</span>
      <span aria-hidden className="font-mono tabular-nums">{`${used}/${slots}${queued ? ` +${queued}` : ''}`}</span>
      <span aria-hidden className="max-md:hidden">
        <SlotDots device={device} />
      </span>
    </span>
  )
}

/** A dot for each slot, filled if it is taken. */
export function SlotDots({ device: { slots, slots_used: used } }: { device: DeviceView }) {
  return (
    <span className="flex gap-0.5">
      {Array.from({ length: Math.max(slots, used) }, (_, i) => (
        <span key={i} className={`size-1.5 rounded-full border ${i < used ? 'border-accent bg-accent' : 'border-edge'}`} />
      ))}
    </span>
  )
}
