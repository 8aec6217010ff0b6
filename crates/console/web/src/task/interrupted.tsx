import { Link } from '@tanstack/react-router'
import { ChevronRight } from 'lucide-react'
import { useState } from 'react'
import { useTranslation } from 'react-i18next'
import type { AttemptView } from '../api/types'
import { clock } from '../i18n/format'
import { useWaitWords } from '../parts/state'
import { useActions } from './actions'
import { StaticBlock } from './block-view'
import { useSession, useTopic } from './hooks'
import type { Row, RowNote } from './row'
import { isOutput } from './text-segment'

/** What an attempt had shown before it ended and another one followed: folded, never joined. */
export function Interrupted({ row, attempt }: { row: Row; attempt: AttemptView }) {
  const { t } = useTranslation()
  const { store } = useSession()
  useTopic(store, row.view.subtask_id)
  const actions = useActions()
  const [open, setOpen] = useState(false)
  const blocks = attempt.interrupted ?? []
  return (
    <div className="my-1 rounded-panel border border-dashed border-edge px-3 py-1.5 text-text-2">
      <button
        type="button"
        aria-expanded={open}
        className="flex w-full min-w-0 items-start gap-2 text-left"
        onClick={() => {
          actions.opened()
          setOpen(!open)
        }}
      >
        <ChevronRight size={16} strokeWidth={1.5} aria-hidden className={`mt-0.5 shrink-0 transition-transform duration-[120ms] ${open ? 'rotate-90' : ''}`} />
        <span className="min-w-0">
          <span className="font-medium">{t('task.interrupted', { n: attempt.attempt })}</span>
          {attempt.error?.continues && <span className="block text-text-3">{t('task.interruptedLost')}</span>}
        </span>
      </button>
      {open && (
        <div className="pt-2">
          <p className="mb-2 text-meta text-text-3">{t(blocks.length > 0 ? 'task.interruptedBody' : 'task.nothingKept')}</p>
          {blocks.map((block) => (
            <StaticBlock key={block.id} block={block} output={isOutput(attempt.shell_type)} />
          ))}
        </div>
      )}
    </div>
  )
}

/** What the node says about a running answer. */
export function Note({ note }: { note: RowNote }) {
  const { t, i18n } = useTranslation()
  const words = useWaitWords()
  const phase = `note.${note.phase}`
  const reason = note.code ? words({ code: note.code, args: note.args ?? {} }) : null
  // A warning is its text: the word for it alone says nothing.
  const asSaid = i18n.language === 'en' || note.phase === 'warning' || !i18n.exists(phase)
  const text = reason ?? (asSaid ? note.text : null) ?? (i18n.exists(phase) ? t(phase) : note.phase)
  return (
    <p className="flex flex-wrap gap-x-2 py-0.5 text-text-2">
      <span>{text}</span>
      {note.retryAt && <span>{t('task.retryAt', { time: clock(note.retryAt) })}</span>}
      {note.count > 1 && <span className="text-text-3">{t('note.times', { count: note.count })}</span>}
      {(note.code ?? '').startsWith('no_device') && (
        <span className="text-text-3">
          {t('wait.next')}{' '}
          <Link to="/devices" className="text-accent underline underline-offset-2">
            {t('nav.devices')}
          </Link>
        </span>
      )}
    </p>
  )
}
