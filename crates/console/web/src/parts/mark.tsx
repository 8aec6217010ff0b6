// Each member has a shape and an ink, the same everywhere.

import type { Sender } from '../api/types'

const SHAPES = [
  <circle key="s" cx="6" cy="6" r="5" />,
  <rect key="s" x="1.5" y="1.5" width="9" height="9" />,
  <path key="s" d="M6 .5 11.5 6 6 11.5.5 6z" />,
  <path key="s" d="M6 1l5.5 10H.5z" />,
  <path key="s" d="M3.2 1h5.6L11.6 6 8.8 11H3.2L.4 6z" />,
  <circle key="s" cx="6" cy="6" r="4" fill="none" stroke="currentColor" strokeWidth="2.4" />,
  <path key="s" d="M4.2.8h3.6v3.4h3.4v3.6H7.8v3.4H4.2V7.8H.8V4.2h3.4z" />,
  <path key="s" d="M1 1h2.6v10H1zM4.7 1h2.6v10H4.7zM8.4 1H11v10H8.4z" />,
]

export function Mark({ index, size = 12 }: { index: number; size?: number }) {
  const n = ((index % 8) + 8) % 8
  return (
    <svg width={size} height={size} viewBox="0 0 12 12" fill="currentColor" aria-hidden className="shrink-0" style={{ color: `var(--ink-${n + 1})` }}>
      {SHAPES[n]}
    </svg>
  )
}

export const memberOf = (sender: Sender): number => (sender.type === 'MEMBER' ? sender.member : 0)
