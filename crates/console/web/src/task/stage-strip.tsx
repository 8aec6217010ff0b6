import { DoorClosed, DoorOpen } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import type { StageInfo, StageView } from '../api/types'
import { Mark, memberOf } from '../parts/mark'
import { State } from '../parts/state'
import { useSender, useStep } from './head'
import { useSession, useTopic } from './hooks'
import type { Row } from './row'

const LOOK: Record<StageView['status'], string> = {
  completed: 'text-success',
  running: 'text-accent font-semibold',
  pending_confirmation: 'text-warn font-semibold',
  failed: 'text-danger',
  pending: 'text-text-3',
}
const STRIP = 'flex h-10 shrink-0 items-center overflow-x-auto border-b border-line px-4 md:px-6'
const PART = 'flex items-center gap-2 rounded-control whitespace-nowrap enabled:hover:underline'
const TOGETHER = ['route', 'coordinate', 'collaborate']

interface StripProps {
  show: (key: string) => void
}

/** Where a turn of several members stands; a press goes to what one of them says. */
export function StageStrip({ show }: StripProps) {
  const { store } = useSession()
  useTopic(store, 'task')
  const task = store.task
  if (task?.stage && task.stage.stages.length > 0) return <Pipeline stage={task.stage} show={show} />
  return task && TOGETHER.includes(task.collaboration_model) ? <Members show={show} /> : null
}

/** A segment for each stage, a door where a person decides. */
function Pipeline({ stage, show }: StripProps & { stage: StageInfo }) {
  const { t } = useTranslation()
  const { store } = useSession()
  useTopic(store, 'items')
  const current = stage.stages[stage.current_stage]
  const rowOf = (index: number): Row | undefined =>
    store.messages().findLast(({ view }) => view.kind === 'answer' && view.step && 'stage' in view.step && view.step.stage === index)
  const press = (index: number): void => {
    const row = rowOf(index)
    if (row) show(row.view.subtask_id)
  }
  return (
    <nav aria-label={t('stages.label')} className={STRIP}>
      {current && (
        <button type="button" className={`${PART} truncate md:hidden ${LOOK[current.status]}`} disabled={!rowOf(current.index)} onClick={() => press(current.index)}>
          <Mark index={current.index} size={10} />
          {t('stages.of', { n: stage.current_stage + 1, total: stage.total_stages, name: stage.current_stage_name })}
          <span className="font-normal">{t(`stages.${current.status}`)}</span>
        </button>
      )}
      <ol className="hidden items-center gap-3 md:flex">
        {stage.stages.map((s) => (
          <li key={s.index} className="flex items-center gap-3 whitespace-nowrap" aria-current={s.index === stage.current_stage ? 'step' : undefined}>
            {s.index > 0 && <span aria-hidden className="h-px w-6 bg-edge" />}
            <button type="button" className={`${PART} ${LOOK[s.status]}`} disabled={!rowOf(s.index)} onClick={() => press(s.index)}>
              <Mark index={s.index} size={10} />
              {s.name}
              <span className="text-meta font-normal">{t(`stages.${s.status}`)}</span>
            </button>
            {s.require_confirmation && (
              <span title={t('stages.gate')} className={s.status === 'pending_confirmation' ? 'text-warn' : 'text-text-3'}>
                {s.status === 'completed' ? <DoorOpen size={16} strokeWidth={1.5} aria-hidden /> : <DoorClosed size={16} strokeWidth={1.5} aria-hidden />}
                <span className="sr-only">{t('stages.gate')}</span>
              </span>
            )}
          </li>
        ))}
      </ol>
    </nav>
  )
}

/** Who leads and who works, in the order in which they began. */
function Members({ show }: StripProps) {
  const { t } = useTranslation()
  const { store } = useSession()
  useTopic(store, 'items')
  const step = useStep()
  const rows = store.lastTurn().filter(({ view }) => view.role === 'ASSISTANT' && view.kind !== 'handoff')
  const round = rows.findLast(({ view }) => view.step && 'round' in view.step)
  return (
    <nav aria-label={t('stages.members')} className={STRIP}>
      {/* Before anybody began the strip has its height already. */}
      {rows.length === 0 && store.task && <State status={store.task.status} />}
      {round && <span className="mr-3 text-meta whitespace-nowrap text-text-2">{step(round.view.step)}</span>}
      <ol className="flex items-center gap-3">
        {rows.map((row, i) => (
          <Member key={row.view.subtask_id} row={row} isFirst={i === 0} show={show} />
        ))}
      </ol>
    </nav>
  )
}

function Member({ row, isFirst, show }: StripProps & { row: Row; isFirst: boolean }) {
  const { t } = useTranslation()
  const { store } = useSession()
  const sender = useSender()
  const { view } = row
  useTopic(store, view.subtask_id)
  return (
    <li className="flex items-center gap-3">
      {!isFirst && <span aria-hidden className="h-px w-4 bg-edge" />}
      <button type="button" className={PART} onClick={() => show(view.subtask_id)}>
        <Mark index={memberOf(view.sender)} size={10} />
        {sender(view)}
        {view.kind !== 'answer' && <span className="text-meta text-text-3">{t(`task.${view.kind}`)}</span>}
        <State status={view.status} compact />
      </button>
    </li>
  )
}
