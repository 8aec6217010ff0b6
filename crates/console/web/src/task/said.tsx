import { ChevronRight, Pencil } from 'lucide-react'
import { useState } from 'react'
import { useTranslation } from 'react-i18next'
import { currentUser } from '../api/auth'
import { clock, fullTime } from '../i18n/format'
import { randomId } from '../parts/ids'
import { CopyButton } from '../parts/copy'
import { Markdown } from '../parts/markdown'
import { complain } from '../parts/toast'
import { useActions } from './actions'
import { useSender } from './head'
import { useSession, useTopic } from './hooks'
import type { Row } from './row'
import { WriteBox } from './write-box'

const CLIP = 1_200

/** What a person said, or what one stage hands to the next. */
export function Said({ row }: { row: Row }) {
  const { store } = useSession()
  useTopic(store, row.view.subtask_id)
  if (row.view.kind === 'handoff') return <HandOff row={row} />
  return <ByPerson row={row} />
}

function ByPerson({ row }: { row: Row }) {
  const { t } = useTranslation()
  const { store } = useSession()
  useTopic(store, 'task')
  const actions = useActions()
  const sender = useSender()
  const [open, setOpen] = useState(false)
  const { view } = row
  const mine = view.sender.type === 'USER' && view.sender.user_id === currentUser()?.id
  const active = ['RUNNING', 'PENDING', 'CANCELLING'].includes(store.task?.status ?? '')
  const long = view.content.length > CLIP && !open
  if (actions.editing === view.subtask_id) return <EditBox row={row} />
  return (
    <div className="group pt-5 pb-2">
      <div className="rounded-panel border border-line bg-surface px-3 py-2">
        <div className="flex items-center gap-2">
          <h2 className="font-semibold">{mine ? t('task.you') : sender(view)}</h2>
          <span className="ml-auto flex items-center text-text-3 opacity-0 transition-opacity group-focus-within:opacity-100 group-hover:opacity-100 [@media(hover:none)]:opacity-100">
            <CopyButton text={view.content} small />
            {mine && !active && (
              <button type="button" className="btn-glyph" aria-label={t('task.editOwn')} title={t('task.editOwn')} onClick={() => actions.edit(view.subtask_id)}>
                <Pencil size={14} strokeWidth={1.5} />
              </button>
            )}
          </span>
          <time className="font-mono text-meta text-text-3 tabular-nums" dateTime={view.created_at} title={fullTime(view.created_at)}>
            {clock(view.created_at)}
          </time>
        </div>
        <div className="text-read whitespace-pre-wrap">{long ? `${view.content.slice(0, CLIP)}…` : view.content}</div>
        {long && (
          <button
            type="button"
            className="btn-link mt-1"
            onClick={() => {
              actions.opened()
              setOpen(true)
            }}
          >
            {t('block.openAll', { lines: view.content.split('\n').length })}
          </button>
        )}
      </div>
    </div>
  )
}

function EditBox({ row }: { row: Row }) {
  const { t } = useTranslation()
  const session = useSession()
  const actions = useActions()
  const [text, setText] = useState(row.view.content)
  const [key] = useState(randomId)
  const [busy, setBusy] = useState(false)
  const after = session.store.messages().filter((r) => r.view.message_id > row.view.message_id).length
  const run = async (): Promise<void> => {
    if (text.trim() === '' || busy) return
    setBusy(true)
    try {
      await session.edit(row.view.subtask_id, text, key)
      actions.edit(null)
    } catch (error) {
      complain(error)
      setBusy(false)
    }
  }
  return (
    <div className="pt-5 pb-2">
      <div className="well">
        <WriteBox value={text} change={setText} submit={() => void run()} label={t('task.editOwn')} placeholder="" autoFocus onEscape={() => actions.edit(null)} />
        <div className="flex flex-wrap items-center gap-2 px-3 pb-2">
          <span className="mr-auto text-meta text-warn">{t('task.editWarn', { count: after })}</span>
          <button type="button" className="btn btn-quiet" onClick={() => actions.edit(null)}>
            {t('app.cancel')}
          </button>
          <button type="button" className="btn btn-primary" disabled={busy || text.trim() === ''} onClick={() => void run()}>
            {t('task.editRun')}
          </button>
        </div>
      </div>
    </div>
  )
}

function HandOff({ row }: { row: Row }) {
  const { t } = useTranslation()
  const actions = useActions()
  const [open, setOpen] = useState(false)
  const { view } = row
  const step = view.step && 'stage' in view.step ? view.step.stage + 1 : null
  return (
    <div className="pt-4 pb-1">
      <div className="rounded-panel border border-dashed border-edge px-3 py-1.5">
        <button
          type="button"
          aria-expanded={open}
          className="flex w-full min-w-0 items-center gap-2 text-left"
          onClick={() => {
            actions.opened()
            setOpen(!open)
          }}
        >
          <ChevronRight size={16} strokeWidth={1.5} aria-hidden className={`shrink-0 transition-transform duration-[120ms] ${open ? 'rotate-90' : ''}`} />
          <span className="font-medium whitespace-nowrap">{step === null ? t('task.handoffPlain') : t('task.handoff', { stage: step })}</span>
          {!open && <span className="min-w-0 truncate text-text-3">{view.content.slice(0, 200)}</span>}
        </button>
        {open && (
          <div className="prose pt-2">
            <Markdown source={view.content} />
          </div>
        )}
      </div>
    </div>
  )
}
