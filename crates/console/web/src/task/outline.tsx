// All turns of a Task in short, to go to one of them: a list, and a strip of marks beside it.

import { ListTree } from 'lucide-react'
import { Popover } from 'radix-ui'
import { useRef, useState } from 'react'
import { useTranslation } from 'react-i18next'
import type { OutlineRow } from '../api/types'
import { State } from '../parts/state'
import { useSession, useTopic } from './hooks'

/** Fewer turns fit on a screen: nothing to jump to. */
const TURNS_MIN = 3

interface OutlineProps {
  jump: (turn: string) => void
}

export function Outline({ jump }: OutlineProps) {
  const { t } = useTranslation()
  const { store } = useSession()
  useTopic(store, 'items')
  const [open, setOpen] = useState(false)
  const jumped = useRef(false)
  const rows = store.outlineRows()
  if (rows.length < TURNS_MIN) return null
  return (
    <Popover.Root open={open} onOpenChange={setOpen}>
      <Popover.Trigger aria-label={t('task.outline')} title={t('task.outline')} className="btn btn-quiet btn-icon">
        <ListTree size={16} strokeWidth={1.5} />
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Content
          align="end"
          sideOffset={4}
          collisionPadding={8}
          aria-label={t('task.outline')}
          className="z-40 max-h-[min(70vh,520px)] w-[min(94vw,380px)] overflow-y-auto rounded-panel border border-line bg-surface p-1 shadow-pop"
          onCloseAutoFocus={(e) => {
            // The turn takes the focus, not the button.
            if (jumped.current) e.preventDefault()
            jumped.current = false
          }}
        >
          <ol>
            {rows.map((row) => (
              <li key={row.turn_id}>
                <button
                  type="button"
                  className="flex min-h-9 w-full items-center gap-2 rounded-control px-2 py-1 text-left hover:bg-sunken max-md:min-h-12"
                  onClick={() => {
                    jumped.current = true
                    setOpen(false)
                    jump(row.turn_id)
                  }}
                >
                  <State status={row.status} compact />
                  <span className="min-w-0 flex-1 truncate">{row.excerpt}</span>
                  <span className="shrink-0 text-meta text-text-3">{row.author}</span>
                </button>
              </li>
            ))}
          </ol>
        </Popover.Content>
      </Popover.Portal>
    </Popover.Root>
  )
}

const INK: Partial<Record<OutlineRow['status'], string>> = {
  FAILED: 'bg-danger',
  RUNNING: 'bg-accent',
  PENDING: 'bg-accent',
  PENDING_CONFIRMATION: 'bg-warn',
}

/** For the mouse alone: the list above does the same for all. */
export function Minimap({ jump, seen }: OutlineProps & { seen: ReadonlySet<string> }) {
  const { store } = useSession()
  useTopic(store, 'items')
  const rows = store.outlineRows()
  if (rows.length < TURNS_MIN) return null
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
