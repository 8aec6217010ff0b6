// All turns of a Task in short, to go to one of them.

import { ListTree } from 'lucide-react'
import { Popover } from 'radix-ui'
import { useRef, useState } from 'react'
import { useTranslation } from 'react-i18next'
import { State } from '../parts/state'
import { useSession, useTopic } from './hooks'

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
