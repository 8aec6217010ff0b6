import { ArrowDown, ArrowUp, Pencil, X } from 'lucide-react'
import { useEffect, useState } from 'react'
import type { Ref } from 'react'
import { useTranslation } from 'react-i18next'
import type { QueuedMessage } from '../api/types'
import { complain } from '../parts/toast'
import { dropDraft, setDraft, useDraft } from './drafts'
import { useSession, useSessionState, useTopic } from './hooks'
import { bytesOf, MESSAGE_BYTES_MAX } from './limits'
import { useEnterHint, WriteBox } from './write-box'
import type { WriteBoxHandle } from './write-box'

interface ComposerProps {
  onSent: () => void
  onUpWhenEmpty: () => void
  handle: Ref<WriteBoxHandle>
}

/** Where a person writes; what waits to go out stands above it. */
export function Composer({ onSent, onUpWhenEmpty, handle }: ComposerProps) {
  const { t } = useTranslation()
  const session = useSession()
  const { store } = session
  useTopic(store, 'task')
  useSessionState(session)
  const text = useDraft(session.id)
  const hint = useEnterHint()
  const status = store.task?.status
  const active = status === 'RUNNING' || status === 'PENDING' || status === 'CANCELLING'
  const tooLong = bytesOf(text) > MESSAGE_BYTES_MAX
  const disabled = text.trim() === '' || tooLong || !store.task
  const send = (): void => {
    if (disabled) return
    // The text moves into the outbox, which keeps it until the node has it.
    session.send(text)
    dropDraft(session.id)
    onSent()
  }
  const placeholder = status === 'PENDING_CONFIRMATION' ? 'compose.atGate' : active ? 'compose.queueUp' : 'compose.reply'
  return (
    <div className="shrink-0 border-t border-line bg-bg px-4 pt-2 pb-[max(12px,env(safe-area-inset-bottom))] md:px-6">
      <div className="mx-auto max-w-[752px]">
        <Queue />
        <Outgoing />
        <div className="well flex items-end gap-2">
          <div className="min-w-0 flex-1">
            <WriteBox
              value={text}
              change={(v) => setDraft(session.id, v)}
              submit={send}
              label={t('compose.reply')}
              placeholder={t(placeholder)}
              onUpWhenEmpty={onUpWhenEmpty}
              handle={handle}
            />
          </div>
          <button type="button" className={`btn m-2 ${status === 'PENDING_CONFIRMATION' ? '' : 'btn-primary'}`} disabled={disabled} onClick={send}>
            {t(active ? 'compose.queue' : 'compose.send')}
          </button>
        </div>
        <p className={`mt-1 text-meta max-md:hidden ${tooLong ? 'text-danger' : 'text-text-3'}`}>
          {tooLong ? t('compose.tooLong', { bytes: bytesOf(text) }) : hint}
        </p>
      </div>
    </div>
  )
}

/** Sent by this person, not yet acknowledged. */
function Outgoing() {
  const { t } = useTranslation()
  const session = useSession()
  const { entries } = session.outbox
  const [late, setLate] = useState(false)
  const sending = entries.some((e) => e.state === 'sending')
  useEffect(() => {
    setLate(false)
    if (!sending) return
    const timer = setTimeout(() => setLate(true), 300)
    return () => clearTimeout(timer)
  }, [sending])
  const shown = entries.filter((e) => e.state !== 'sending' || late)
  if (shown.length === 0) return null
  return (
    <ul className="mb-2 flex flex-col gap-1" data-testid="outbox">
      {shown.map((e) => (
        <li key={e.id} className="flex items-start gap-2 rounded-panel border border-dashed border-edge px-3 py-1.5">
          <span className="line-clamp-3 min-w-0 flex-1 whitespace-pre-wrap">{e.text}</span>
          <span className={`shrink-0 text-meta ${e.state === 'refused' ? 'max-w-[50%] text-danger' : 'text-text-3'}`}>
            {e.state === 'refused' ? t('task.refused', { reason: e.reason }) : t(e.state === 'sending' ? 'task.sending' : 'task.waits')}
          </span>
          {e.state !== 'sending' && (
            <button
              type="button"
              className="btn-glyph"
              aria-label={t('app.edit')}
              title={t('app.edit')}
              onClick={() => {
                setDraft(session.id, e.text)
                session.drop(e.id)
              }}
            >
              <Pencil size={14} strokeWidth={1.5} />
            </button>
          )}
        </li>
      ))}
    </ul>
  )
}

/** Messages that wait behind the running turn. */
function Queue() {
  const { t } = useTranslation()
  const session = useSession()
  const { store } = session
  const status = store.task?.status
  const held = status === 'FAILED' || status === 'CANCELLED' || status === 'PENDING_CONFIRMATION' || status === 'COMPLETED'
  if (store.queue.length === 0) return null
  const move = (from: number, to: number): void => {
    const order = store.queue.map((m) => m.subtask_id)
    order.splice(to, 0, ...order.splice(from, 1))
    session.queue({ op: 'reorder', order }).catch(complain)
  }
  return (
    <section aria-label={t('task.queueTitle')} className="mb-2">
      <ol className="flex flex-col gap-1">
        {store.queue.map((message, i) => (
          <Queued key={message.subtask_id} message={message} place={i} count={store.queue.length} move={move} />
        ))}
      </ol>
      {held && (
        <div className="mt-1 flex flex-wrap items-center gap-3 text-meta text-text-2">
          {status !== 'PENDING_CONFIRMATION' && <span>{t('task.queueHeld')}</span>}
          <button type="button" className="btn-link" onClick={() => session.queue({ op: 'resume' }).catch(complain)}>
            {t('task.queueResume')}
          </button>
        </div>
      )}
    </section>
  )
}

interface QueuedProps {
  message: QueuedMessage
  /** From 0. */
  place: number
  count: number
  move: (from: number, to: number) => void
}

function Queued({ message, place, count, move }: QueuedProps) {
  const { t } = useTranslation()
  const session = useSession()
  const [text, setText] = useState<string | null>(null)
  const replace = async (): Promise<void> => {
    if (text === null || text.trim() === '') return
    try {
      await session.queue({ op: 'replace', subtask_id: message.subtask_id, message: text })
      setText(null)
    } catch (error) {
      complain(error)
    }
  }
  if (text !== null) {
    return (
      <li className="well">
        <WriteBox value={text} change={setText} submit={() => void replace()} label={t('task.queueEdit')} placeholder="" autoFocus onEscape={() => setText(null)} />
        <div className="flex justify-end gap-2 px-2 pb-2">
          <button type="button" className="btn btn-quiet" onClick={() => setText(null)}>
            {t('app.cancel')}
          </button>
          <button type="button" className="btn" onClick={() => void replace()}>
            {t('app.save')}
          </button>
        </div>
      </li>
    )
  }
  return (
    <li className="flex items-center gap-2 rounded-panel border border-line bg-sunken py-1 pr-1 pl-3 max-md:flex-wrap max-md:justify-end max-md:gap-y-0">
      <span className="font-mono text-meta text-text-3 tabular-nums">{place + 1}</span>
      <span className="min-w-0 flex-1 truncate max-md:line-clamp-2 max-md:min-w-[calc(100%-32px)] max-md:whitespace-normal" title={message.content}>
        {message.content}
      </span>
      {count > 1 && (
        <>
          <button type="button" className="btn-glyph" disabled={place === 0} aria-label={t('task.queueUp')} title={t('task.queueUp')} onClick={() => move(place, place - 1)}>
            <ArrowUp size={14} strokeWidth={1.5} />
          </button>
          <button type="button" className="btn-glyph" disabled={place === count - 1} aria-label={t('task.queueDown')} title={t('task.queueDown')} onClick={() => move(place, place + 1)}>
            <ArrowDown size={14} strokeWidth={1.5} />
          </button>
        </>
      )}
      <button type="button" className="btn-glyph" aria-label={t('task.queueEdit')} title={t('task.queueEdit')} onClick={() => setText(message.content)}>
        <Pencil size={14} strokeWidth={1.5} />
      </button>
      <button
        type="button"
        className="btn-glyph"
        aria-label={t('task.queueRemove')}
        title={t('task.queueRemove')}
        onClick={() => session.queue({ op: 'remove', subtask_id: message.subtask_id }).catch(complain)}
      >
        <X size={14} strokeWidth={1.5} />
      </button>
    </li>
  )
}
