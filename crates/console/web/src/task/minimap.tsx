// The turns of a Task as a strip of marks beside it.

import type { OutlineRow } from '../api/types'
import { useSession, useTopic } from './hooks'

/** Fewer turns fit on a screen: nothing to jump to. */
const TURNS_MIN = 3

/** All turns, if they are worth a way through them. */
export function useOutline(): readonly OutlineRow[] | null {
  const { store } = useSession()
  useTopic(store, 'items')
  const rows = store.outlineRows()
  return rows.length < TURNS_MIN ? null : rows
}

interface MinimapProps {
  jump: (turn: string) => void
  seen: ReadonlySet<string>
}

const INK: Partial<Record<OutlineRow['status'], string>> = {
  FAILED: 'bg-danger',
  RUNNING: 'bg-accent',
  PENDING: 'bg-accent',
  PENDING_CONFIRMATION: 'bg-warn',
}

/** For the mouse alone: the outline does the same for all. */
export function Minimap({ jump, seen }: MinimapProps) {
  const rows = useOutline()
  if (!rows) return null
  return (
    <div aria-hidden className="absolute top-4 right-3 bottom-4 hidden w-5 flex-col justify-center overflow-hidden wide:flex">
      {rows.map((row) => (
        <button
          key={row.turn_id}
          type="button"
          tabIndex={-1}
          title={row.excerpt}
          className="group flex max-h-3 min-h-[3px] flex-1 items-center justify-end"
          onClick={() => jump(row.turn_id)}
        >
          <span className={`h-[2px] rounded-full group-hover:w-5 ${seen.has(row.turn_id) ? 'w-4' : 'w-2.5'} ${INK[row.status] ?? (seen.has(row.turn_id) ? 'bg-text-2' : 'bg-edge')}`} />
        </button>
      ))}
    </div>
  )
}
