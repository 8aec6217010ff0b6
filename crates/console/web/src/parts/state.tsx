// A state is a glyph, a colour and a word.

import { useTranslation } from 'react-i18next'
import type { Status, Wait } from '../api/types'

const COLOUR: Record<string, string> = {
  PENDING: 'text-text-3',
  RUNNING: 'text-accent',
  PENDING_CONFIRMATION: 'text-warn',
  CANCELLING: 'text-text-2',
  COMPLETED: 'text-success',
  FAILED: 'text-danger',
  CANCELLED: 'text-text-2',
  DELETE: 'text-text-3',
}

const GLYPH: Record<string, React.ReactNode> = {
  PENDING: (
    <g fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinecap="round">
      <circle cx="8" cy="8" r="6" />
      <path d="M8 4.8V8l2 1.6" />
    </g>
  ),
  RUNNING: (
    <g>
      <circle cx="8" cy="8" r="2.6" fill="currentColor" />
      <path className="arc" d="M8 2a6 6 0 1 1-6 6" fill="none" stroke="currentColor" strokeWidth="1.6" strokeLinecap="round" style={{ transformOrigin: '8px 8px', transformBox: 'view-box' }} />
    </g>
  ),
  resuming: (
    <g fill="none" stroke="currentColor" strokeWidth="1.5">
      <circle cx="8" cy="8" r="6" strokeDasharray="3 2.2" />
      <path d="M6 5.5 10 8l-4 2.5z" fill="currentColor" stroke="none" />
    </g>
  ),
  PENDING_CONFIRMATION: <path d="M8 1.5 14.5 8 8 14.5 1.5 8z" fill="currentColor" />,
  CANCELLING: <rect x="3" y="3" width="10" height="10" fill="none" stroke="currentColor" strokeWidth="1.5" />,
  COMPLETED: (
    <g>
      <circle cx="8" cy="8" r="6.5" fill="currentColor" />
      <path d="M5 8.2 7.2 10.4 11 6" fill="none" stroke="var(--bg)" strokeWidth="1.6" />
    </g>
  ),
  FAILED: (
    <g>
      <path d="M5.3 1.5h5.4l3.8 3.8v5.4l-3.8 3.8H5.3l-3.8-3.8V5.3z" fill="currentColor" />
      <path d="M5.8 5.8l4.4 4.4m0-4.4-4.4 4.4" stroke="var(--bg)" strokeWidth="1.6" />
    </g>
  ),
  CANCELLED: (
    <g fill="none" stroke="currentColor" strokeWidth="1.5">
      <rect x="3" y="3" width="10" height="10" />
      <path d="M3 13 13 3" />
    </g>
  ),
}

/** A person is awaited. */
export function Diamond({ size = 16 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 16 16" aria-hidden className="shrink-0">
      {GLYPH.PENDING_CONFIRMATION}
    </svg>
  )
}

/** The place after so many others: `9` is the 10th, `20+` is the 21st or a later one. */
export const placeAfter = (ahead: string) => `${parseInt(ahead, 10) + 1}${ahead.endsWith('+') ? '+' : ''}`

/** Why something waits, worded here for known codes. */
export function useWaitWords(): (wait: Wait | undefined) => string | null {
  const { t, i18n } = useTranslation()
  return (wait) => {
    if (!wait) return null
    const tool = wait.args.tool ?? wait.args.runtime
    if (wait.code === 'no_device' && typeof tool !== 'string') return t('wait.no_device_plain')
    const { position, ahead } = wait.args
    const place = position ?? (typeof ahead === 'string' ? placeAfter(ahead) : undefined)
    const args = { ...wait.args, place }
    const { devices, draining } = wait.args
    const drains = draining !== undefined && draining === devices
    const keys = [...(drains ? [`wait.${wait.code}_draining`] : []), ...(place === undefined ? [] : [`wait.${wait.code}_placed`]), `wait.${wait.code}`]
    const key = keys.find((known) => i18n.exists(known))
    if (key) return t(key, args)
    return wait.code.replaceAll('_', ' ')
  }
}

interface StateProps {
  status: Status
  resuming?: boolean
  wait?: Wait
  /** Its agents wait for a person. */
  asks?: number
  compact?: boolean
}

export function State({ status: given, resuming, wait, asks = 0, compact }: StateProps) {
  const { t } = useTranslation()
  const words = useWaitWords()
  const asked = given === 'RUNNING' && asks > 0
  const status = asked ? 'PENDING_CONFIRMATION' : given
  const shape = resuming && status === 'RUNNING' ? 'resuming' : status
  const reason = status === 'RUNNING' || status === 'PENDING' ? words(wait) : null
  const text = asked ? t('asks.states.pending') : reason ? t('status.waiting', { reason }) : t(`status.${shape}`)
  return (
    <span className={`inline-flex min-w-0 items-center gap-1.5 ${COLOUR[status] ?? ''}`} title={compact ? text : undefined}>
      <svg width="16" height="16" viewBox="0 0 16 16" aria-hidden className="shrink-0">
        {GLYPH[shape]}
      </svg>
      <span className={compact ? 'sr-only' : 'truncate'}>{text}</span>
    </span>
  )
}
