import { useTranslation } from 'react-i18next'
import type { MessageView, RunStep } from '../api/types'
import { clock, fullTime } from '../i18n/format'
import { Mark, memberOf } from '../parts/mark'
import { State } from '../parts/state'
import { useSession, useTopic } from './hooks'
import type { Row } from './row'

/** Who a row is from, in words. */
export function useSender(): (view: MessageView) => string {
  const { t } = useTranslation()
  return ({ sender }) => {
    switch (sender.type) {
      case 'USER':
        return sender.user_name
      case 'MEMBER':
        return sender.name
      case 'TEAM':
        return t('task.teamSender')
      case 'SYSTEM':
        return t('task.system')
    }
  }
}

export function useStep(): (step: RunStep | undefined) => string | null {
  const { t } = useTranslation()
  return (step) => {
    if (!step) return null
    if ('stage' in step) return t('task.stage', { n: step.stage + 1 })
    if ('round' in step) return t('task.round', { n: step.round })
    return t('task.item', { n: step.item + 1 })
  }
}

/** First line of an answer: who, in which part of the run, how far. */
export function Head({ row }: { row: Row }) {
  const { t } = useTranslation()
  const { store } = useSession()
  useTopic(store, row.view.subtask_id)
  const sender = useSender()
  const step = useStep()
  const { view } = row
  const attempt = view.attempts.at(-1)
  const special = view.kind === 'answer' ? null : t(`task.${view.kind}`)
  const resuming = attempt?.error?.continues === true
  const parts = [special, step(view.step), attempt?.model].filter(Boolean)
  const where = place(attempt?.where, t('task.onCluster'))
  return (
    <div className="flex min-w-0 flex-wrap items-center gap-x-2 pt-4 pb-2">
      <Mark index={memberOf(view.sender)} />
      <h2 className="ml-1 font-semibold">{sender(view)}</h2>
      {(parts.length > 0 || where) && (
        <span className="min-w-0 truncate text-meta text-text-3">
          {parts.join(' · ')}
          {where && <span className="max-md:hidden">{parts.length > 0 ? ` · ${where}` : where}</span>}
        </span>
      )}
      {view.attempts.length > 1 && (
        <span className="text-meta text-text-3">{t('task.attempt', { n: attempt?.attempt })}</span>
      )}
      <span className="ml-auto flex items-center gap-3">
        {view.status !== 'COMPLETED' && <State status={view.status} resuming={resuming} />}
        <time className="font-mono text-meta text-text-3 tabular-nums" dateTime={view.created_at} title={fullTime(view.created_at)}>
          {clock(view.created_at)}
        </time>
      </span>
    </div>
  )
}

function place(where: MessageView['attempts'][number]['where'] | undefined, cluster: string): string | null {
  if (!where) return null
  if (where.kind === 'device') return where.name
  return where.kind === 'container' ? where.id : cluster
}
