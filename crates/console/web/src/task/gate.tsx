import { useQuery } from '@tanstack/react-query'
import { useEffect, useId, useState } from 'react'
import { useTranslation } from 'react-i18next'
import { api } from '../api/http'
import { announce } from '../parts/announce'
import { randomId } from '../parts/ids'
import { complain } from '../parts/toast'
import { useActions } from './actions'
import { draft, dropDraft, setDraft, useDraft } from './drafts'
import { handoffText, passingOf } from './handoff'
import { useSession, useTopic } from './hooks'
import type { Row } from './row'

/** How long a fresh card takes neither key nor click: a press was meant for something else. */
const CALM_MS = 400

/** What passes on without a change; null: not known yet. */
function useHandoff(row: Row, stage: number, name: string): string | null {
  const { store } = useSession()
  const told = row.view.blocks.findLast((b) => b.type === 'confirmation')?.handoff
  const namespace = store.task?.team_namespace ?? 'default'
  const team = store.task?.team_name ?? ''
  const query = useQuery({
    queryKey: ['team', namespace, team],
    queryFn: () => api.team(namespace, team),
    enabled: told === undefined,
  })
  if (told !== undefined) return told
  if (query.isPending) return null
  // A Team that is gone meanwhile still has its rule in the Task: show the usual one.
  const passing = query.data ? passingOf(query.data.spec, stage) : 'original_and_previous'
  const original = store.messages().find((r) => r.view.kind === 'user')?.view.content ?? ''
  return handoffText(passing, original, name, row.view.content)
}

/** A stage is ready and a person decides whether the next one starts. */
export function Gate({ row, stage }: { row: Row; stage: number }) {
  const { t } = useTranslation()
  const session = useSession()
  useTopic(session.store, 'task')
  const actions = useActions()
  const field = useId()
  const [calm, setCalm] = useState(true)
  const [busy, setBusy] = useState(false)
  const [key] = useState(randomId)
  const info = session.store.task?.stage
  const name = info?.stages[stage]?.name ?? ''
  const last = info !== undefined && stage === info.total_stages - 1
  const handoff = useHandoff(row, stage, name)
  // What was changed is a draft too: it survives a reload and a scroll.
  const draftKey = `gate.${session.id}.${row.view.subtask_id}.${stage}`
  const stored = useDraft(draftKey)
  const text = stored === '' ? (handoff ?? '') : stored

  useEffect(() => {
    const timer = setTimeout(() => setCalm(false), CALM_MS)
    announce(t('task.noticeGate', { name }))
    return () => clearTimeout(timer)
  }, [name, t])

  const confirm = async (): Promise<void> => {
    if (busy || calm) return
    setBusy(true)
    try {
      const changed = draft(draftKey)
      await session.confirm(changed !== '' && changed !== handoff ? changed : undefined, key)
      dropDraft(draftKey)
    } catch (error) {
      complain(error)
      setBusy(false)
    }
  }

  return (
    <section aria-label={t('gate.title', { n: stage + 1, name })} className="my-2 rounded-panel border border-warn bg-surface p-3">
      <h3 className="font-semibold">{t('gate.title', { n: stage + 1, name })}</h3>
      <p className="mt-0.5 mb-3 text-text-2">{t(last ? 'gate.leadLast' : 'gate.lead')}</p>
      {!last && (
        <>
          <label htmlFor={field} className="mb-1 block text-meta text-text-3">
            {t('gate.handoff')}
          </label>
          <textarea
            id={field}
            className="field mb-1 font-mono max-md:text-[16px]"
            rows={Math.min(12, Math.max(4, text.split('\n').length + 1))}
            value={text}
            disabled={handoff === null}
            onChange={(e) => setDraft(draftKey, e.target.value)}
          />
          {handoff !== null && text !== handoff && (
            <button type="button" className="btn-link mb-2" onClick={() => setDraft(draftKey, '')}>
              {t('gate.reset')}
            </button>
          )}
        </>
      )}
      <div className="mt-2 flex flex-wrap gap-6">
        <button type="button" className="btn btn-primary" disabled={busy} aria-disabled={calm} onClick={() => void confirm()}>
          {t(last ? 'gate.finish' : 'gate.confirm')}
        </button>
        <button type="button" className="btn" disabled={busy} onClick={actions.askForChanges}>
          {t('gate.changes')}
        </button>
      </div>
    </section>
  )
}
