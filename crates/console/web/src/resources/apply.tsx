import { useQueryClient } from '@tanstack/react-query'
import type { QueryClient } from '@tanstack/react-query'
import { useEffect, useRef, useState } from 'react'
import { useTranslation } from 'react-i18next'
import { ApiError } from '../api/auth'
import { api } from '../api/http'
import type { ApplyAnswer } from '../api/http'
import type { FieldError } from '../api/types'
import { wordsOf } from '../parts/toast'
import { KINDS } from './samples'

export type Outcome = { answer: ApplyAnswer } | { text: string; errors: FieldError[] }

/** What a refusal says, field by field if it does. */
export function refused(error: unknown): Outcome {
  const errors = error instanceof ApiError ? (error.problem.errors ?? []) : []
  return { text: wordsOf(error), errors }
}

/** Every list may have changed. */
export function refetchAll(queries: QueryClient): void {
  for (const kind of KINDS) void queries.invalidateQueries({ queryKey: [kind] })
}

export function Apply({ sample }: { sample: string | undefined }) {
  const { t } = useTranslation()
  const queries = useQueryClient()
  const [text, setText] = useState('')
  const [outcome, setOutcome] = useState<Outcome | null>(null)
  const [busy, setBusy] = useState(false)
  const run = async (dryRun: boolean): Promise<void> => {
    setBusy(true)
    try {
      setOutcome({ answer: await api.apply(text, dryRun) })
      if (!dryRun) refetchAll(queries)
    } catch (error) {
      setOutcome(refused(error))
    } finally {
      setBusy(false)
    }
  }
  return (
    <section className="mt-8">
      <h2 className="text-section font-semibold">{t('resources.apply')}</h2>
      <div className="mb-2 flex flex-wrap items-end justify-between gap-x-4 gap-y-2">
        <p id="apply-hint" className="text-text-2">
          {t('resources.applyHint')}
        </p>
        {sample && (
          <button type="button" className="btn" disabled={text.trim() !== ''} onClick={() => setText(sample)}>
            {t('resources.sample')}
          </button>
        )}
      </div>
      <textarea
        className="field font-mono leading-5"
        rows={12}
        spellCheck={false}
        aria-label={t('resources.apply')}
        aria-describedby="apply-hint"
        value={text}
        onChange={(e) => {
          setText(e.target.value)
          setOutcome(null)
        }}
      />
      <div className="mt-2 flex gap-3">
        <button type="button" className="btn btn-primary" disabled={busy || text.trim() === ''} onClick={() => void run(false)}>
          {t('resources.applyNow')}
        </button>
        <button type="button" className="btn" disabled={busy || text.trim() === ''} onClick={() => void run(true)}>
          {t('resources.dryRun')}
        </button>
      </div>
      {outcome && <Result outcome={outcome} />}
    </section>
  )
}

export function Result({ outcome }: { outcome: Outcome }) {
  const { t, i18n } = useTranslation()
  const box = useRef<HTMLDivElement>(null)
  useEffect(() => {
    box.current?.scrollIntoView({ block: 'nearest' })
  }, [outcome])
  if ('answer' in outcome) {
    const { answer } = outcome
    return (
      <div ref={box} role="status" className="mt-3 scroll-mb-6">
        <p className="font-medium text-success">{t(answer.dryRun ? 'resources.okDry' : 'resources.ok')}</p>
        <ul className="mt-1">
          {answer.results.map((r, i) => (
            <li key={i}>
              <span className="font-mono">{`${r.kind}/${r.name}`}</span>{' '}
              <span className="text-text-2">{i18n.exists(`resources.${r.operation}`) ? t(`resources.${r.operation}`) : r.operation}</span>
            </li>
          ))}
          {answer.warnings?.map((w, i) => (
            <li key={`w${i}`} className="text-warn">{`${w.path}: ${w.message}`}</li>
          ))}
        </ul>
      </div>
    )
  }
  return (
    <div ref={box} role="alert" className="mt-3 scroll-mb-6">
      <p className="font-medium text-danger">{outcome.errors.length > 0 ? t('resources.problems', { count: outcome.errors.length }) : outcome.text}</p>
      <ul className="mt-1">
        {outcome.errors.map((e, i) => (
          <li key={i}>
            <span className="font-mono text-meta text-text-3">{[e.line && t('resources.line', { n: e.line }), e.path].filter(Boolean).join(' · ')}</span> {e.message}
            {e.suggestion && <span className="text-text-2"> {t('resources.suggestion', { word: e.suggestion })}</span>}
          </li>
        ))}
      </ul>
    </div>
  )
}
