import { RotateCcw } from 'lucide-react'
import { useEffect, useRef } from 'react'
import { useTranslation } from 'react-i18next'
import { clock, duration, number } from '../i18n/format'
import { announce } from '../parts/announce'
import { CopyButton } from '../parts/copy'
import { useActions } from './actions'
import { useSender } from './head'
import { useSession, useTopic } from './hooks'
import type { Row } from './row'

/** Words of a text; of Chinese, its characters. */
function wordsOf(text: string): number {
  const han = text.match(/\p{Script=Han}/gu)?.length ?? 0
  const rest = text.replace(/\p{Script=Han}/gu, ' ').match(/[\p{L}\p{N}][\p{L}\p{N}'’-]*/gu)?.length ?? 0
  return han + rest
}

/** What an answer cost, how it failed, what to do about it. */
export function Foot({ row }: { row: Row }) {
  const { t, i18n } = useTranslation()
  const { store } = useSession()
  useTopic(store, row.view.subtask_id)
  useTopic(store, 'task')
  const actions = useActions()
  const sender = useSender()
  const { view } = row
  const name = sender(view)
  const before = useRef(view.status)
  useEffect(() => {
    if (before.current === view.status) return
    before.current = view.status
    if (view.status === 'RUNNING') announce(t('task.noticeStart', { name }))
    if (view.status === 'COMPLETED') announce(t('task.noticeDone', { name, words: number(wordsOf(view.content)) }))
    if (view.status === 'FAILED') announce(t('task.noticeFailed', { name }))
  }, [view.status, view.content, name, t])

  const attempt = view.attempts.at(-1)
  const active = ['RUNNING', 'PENDING', 'CANCELLING'].includes(store.task?.status ?? '')
  const last = store.messages().at(-1)?.view.turn_id === view.turn_id
  const over = view.status === 'FAILED' || view.status === 'CANCELLED'
  const error = view.status === 'FAILED' ? attempt?.error : undefined
  const key = error && i18n.exists(`error.${error.type}`) ? `error.${error.type}` : 'error.generic_error'
  const next = error && i18n.exists(`error.next.${error.type}`) ? `error.next.${error.type}` : 'error.next.other'
  const waiting = view.status === 'RUNNING' && view.blocks.length === 0 && row.notes.length === 0
  return (
    <div className="pb-3">
      {waiting && <p className="text-text-3">{t('task.waitingFirst')}</p>}
      {view.status === 'PENDING' && row.notes.length === 0 && <p className="text-text-3">{t('task.queuedNote')}</p>}
      {error && (
        <div className="my-2 rounded-panel border border-danger px-3 py-2">
          <p className="font-medium text-danger">{t(key)}</p>
          <p className="mt-0.5 text-text-2">{t(next)}</p>
          {error.error && (
            <details className="mt-1" onToggle={() => actions.opened()}>
              <summary className="cursor-pointer text-text-3">{t('error.details')}</summary>
              <p className="mt-1 font-mono text-meta whitespace-pre-wrap text-text-2">{error.error}</p>
            </details>
          )}
        </div>
      )}
      {over && last && !active && (
        <button type="button" className="btn mt-1 mb-1" onClick={() => actions.retry(view.subtask_id)}>
          <RotateCcw size={16} strokeWidth={1.5} aria-hidden />
          {t('task.retry')}
        </button>
      )}
      {attempt?.ended_at && (
        <div className="flex flex-wrap items-center gap-x-3 text-meta text-text-3">
          <span className="tabular-nums" title={clock(attempt.ended_at)}>
            {duration(Date.parse(attempt.ended_at) - Date.parse(attempt.started_at))}
          </span>
          {view.usage && (
            <>
              <span className="tabular-nums">
                {t('task.tokens', { in: number(view.usage.input_tokens), out: number(view.usage.output_tokens) })}
              </span>
              {view.usage.cached_tokens > 0 && <span>{t('task.cached', { n: number(view.usage.cached_tokens) })}</span>}
              {view.usage.cost !== undefined && <span>{t('task.cost', { cost: number(view.usage.cost) })}</span>}
            </>
          )}
          {view.content !== '' && <CopyButton text={view.content} small label={t('task.copyAnswer')} />}
        </div>
      )}
    </div>
  )
}
