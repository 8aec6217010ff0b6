import { useQuery, useQueryClient } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { useState } from 'react'
import { useTranslation } from 'react-i18next'
import { ApiError } from '../api/auth'
import { api } from '../api/http'
import type { ApplyAnswer } from '../api/http'
import type { FieldError, Resource } from '../api/types'
import { CodeBlock } from '../parts/markdown'
import { Empty, Heading, Skeleton, Trouble } from '../parts/page'
import { wordsOf } from '../parts/toast'

const route = getRouteApi('/app/resources/$kind')
const KINDS = ['teams', 'bots', 'ghosts', 'models', 'shells'] as const

export function ResourcesPage() {
  const { t } = useTranslation()
  const { kind } = route.useParams()
  const list = useQuery({ queryKey: [kind], queryFn: ({ signal }) => api.list(kind, signal) })
  const items = list.data?.items ?? []
  return (
    <main className="min-h-0 flex-1 overflow-y-auto">
      <div className="mx-auto max-w-[960px] px-4 py-4 md:px-6">
        <Heading>{t('resources.title')}</Heading>
        <nav aria-label={t('resources.title')} className="mt-3 mb-4 flex gap-1 overflow-x-auto">
          {KINDS.map((k) => (
            <Link key={k} to="/resources/$kind" params={{ kind: k }} className="btn btn-quiet" activeProps={{ className: 'border-accent bg-accent-weak text-accent' }}>
              {t(`resources.kinds.${k}`)}
            </Link>
          ))}
        </nav>
        {list.isPending ? (
          <Skeleton rows={4} />
        ) : list.isError ? (
          <Trouble error={list.error} retry={() => void list.refetch()} />
        ) : items.length === 0 ? (
          <Empty text={t('resources.empty')} />
        ) : (
          <ul className="border-t border-line">
            {items.map((item) => (
              <One key={`${item.metadata.namespace}/${item.metadata.name}`} item={item} />
            ))}
          </ul>
        )}
        <Apply />
      </div>
    </main>
  )
}

function One({ item }: { item: Resource }) {
  const { t } = useTranslation()
  const about = item.spec.description
  return (
    <li className="border-b border-line">
      <details>
        <summary className="flex min-h-9 cursor-pointer flex-wrap items-center gap-x-3 px-2 py-2 hover:bg-sunken max-md:min-h-12">
          <span className="font-medium">{item.metadata.displayName ?? item.metadata.name}</span>
          <span className="font-mono text-meta text-text-3">{item.metadata.name}</span>
          <span className="text-meta text-text-3">{item.metadata.owner === 'public' ? t('compose.public') : t('compose.mine')}</span>
          {typeof about === 'string' && <span className="basis-full truncate text-text-2">{about}</span>}
        </summary>
        <div className="px-2 pb-3">
          <CodeBlock info="json" code={JSON.stringify(item, null, 2)} />
        </div>
      </details>
    </li>
  )
}

type Outcome = { answer: ApplyAnswer } | { text: string; errors: FieldError[] }

function Apply() {
  const { t } = useTranslation()
  const queries = useQueryClient()
  const [text, setText] = useState('')
  const [outcome, setOutcome] = useState<Outcome | null>(null)
  const [busy, setBusy] = useState(false)
  const run = async (dryRun: boolean): Promise<void> => {
    setBusy(true)
    try {
      setOutcome({ answer: await api.apply(text, dryRun) })
      if (!dryRun) for (const kind of KINDS) void queries.invalidateQueries({ queryKey: [kind] })
    } catch (error) {
      const errors = error instanceof ApiError ? (error.problem.errors ?? []) : []
      setOutcome({ text: wordsOf(error), errors })
    } finally {
      setBusy(false)
    }
  }
  return (
    <section className="mt-8">
      <h2 className="text-section font-semibold">{t('resources.apply')}</h2>
      <p id="apply-hint" className="mb-2 text-text-2">
        {t('resources.applyHint')}
      </p>
      <textarea
        className="field font-mono"
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

function Result({ outcome }: { outcome: Outcome }) {
  const { t, i18n } = useTranslation()
  if ('answer' in outcome) {
    const { answer } = outcome
    return (
      <div role="status" className="mt-3">
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
    <div role="alert" className="mt-3">
      <p className="font-medium text-danger">{outcome.text}</p>
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
