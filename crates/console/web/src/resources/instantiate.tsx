import { useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { useState } from 'react'
import { useTranslation } from 'react-i18next'
import { api } from '../api/http'
import type { Resource } from '../api/types'
import { refetchAll, refused, Result } from './apply'
import type { Outcome } from './apply'

/** A Template becomes the reader's own resources; what it would make is shown first on demand. */
export function Instantiate({ template }: { template: Resource }) {
  const { t } = useTranslation()
  const queries = useQueryClient()
  const [outcome, setOutcome] = useState<Outcome | null>(null)
  const [busy, setBusy] = useState(false)
  const { name, namespace = 'default' } = template.metadata
  const run = async (dryRun: boolean): Promise<void> => {
    setBusy(true)
    try {
      setOutcome({ answer: await api.instantiate(namespace, name, dryRun) })
      if (!dryRun) refetchAll(queries)
    } catch (error) {
      setOutcome(refused(error))
    } finally {
      setBusy(false)
    }
  }
  const made = outcome && 'answer' in outcome && !outcome.answer.dryRun ? outcome.answer.results : []
  return (
    <div className="mb-3">
      <div className="flex flex-wrap gap-3">
        <button type="button" className="btn btn-primary" disabled={busy} onClick={() => void run(false)}>
          {t('resources.instantiate')}
        </button>
        <button type="button" className="btn" disabled={busy} onClick={() => void run(true)}>
          {t('resources.dryRun')}
        </button>
      </div>
      {outcome && <Result outcome={outcome} />}
      {made
        .filter((one) => one.kind === 'Team')
        .map((team) => (
          <p key={team.name} className="mt-2">
            <Link to="/tasks/new" search={{ team: `${team.namespace}/${team.name}` }} className="text-accent underline underline-offset-2">
              {t('resources.taskWith', { team: team.name })}
            </Link>
          </p>
        ))}
    </div>
  )
}
