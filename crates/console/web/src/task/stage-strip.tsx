import { DoorClosed, DoorOpen } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import type { StageView } from '../api/types'
import { Mark } from '../parts/mark'
import { useSession, useTopic } from './hooks'

const LOOK: Record<StageView['status'], string> = {
  completed: 'text-success',
  running: 'text-accent font-semibold',
  pending_confirmation: 'text-warn font-semibold',
  failed: 'text-danger',
  pending: 'text-text-3',
}

/** Where the pipeline stands: a segment for each stage, a door where a person decides. */
export function StageStrip() {
  const { t } = useTranslation()
  const { store } = useSession()
  useTopic(store, 'task')
  const stage = store.task?.stage
  if (!stage || stage.stages.length === 0) return null
  const current = stage.stages[stage.current_stage]
  return (
    <nav aria-label={t('stages.label')} className="flex h-10 shrink-0 items-center overflow-x-auto border-b border-line px-4 md:px-6">
      {current && (
        <p className={`flex items-center gap-2 truncate md:hidden ${LOOK[current.status]}`}>
          <Mark index={current.index} size={10} />
          {t('stages.of', { n: stage.current_stage + 1, total: stage.total_stages, name: stage.current_stage_name })}
          <span className="font-normal">{t(`stages.${current.status}`)}</span>
        </p>
      )}
      <ol className="hidden items-center gap-3 md:flex">
        {stage.stages.map((s) => (
          <li key={s.index} className="flex items-center gap-3 whitespace-nowrap" aria-current={s.index === stage.current_stage ? 'step' : undefined}>
            {s.index > 0 && <span aria-hidden className="h-px w-6 bg-edge" />}
            <span className={`flex items-center gap-2 ${LOOK[s.status]}`}>
              <Mark index={s.index} size={10} />
              {s.name}
              <span className="text-meta font-normal">{t(`stages.${s.status}`)}</span>
            </span>
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
