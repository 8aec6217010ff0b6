import { useQuery, useQueryClient } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { ChevronRight } from 'lucide-react'
import { useEffect, useRef, useState } from 'react'
import { useTranslation } from 'react-i18next'
import { ApiError } from '../api/auth'
import { api } from '../api/http'
import type { ApplyAnswer } from '../api/http'
import type { FieldError, Resource } from '../api/types'
import { CodeBlock } from '../parts/code'
import { Empty, Heading, Skeleton, Trouble } from '../parts/page'
import { wordsOf } from '../parts/toast'
import { TEMPLATES } from './templates'

const route = getRouteApi('/app/resources/$kind')
const KINDS = ['teams', 'bots', 'ghosts', 'models', 'shells'] as const

export function ResourcesPage() {
  const { t, i18n } = useTranslation()
  const { kind } = route.useParams()
  const list = useQuery({ queryKey: [kind], queryFn: ({ signal }) => api.list(kind, signal) })
  const items = list.data?.items ?? []
  return (
    <main className="min-h-0 flex-1 overflow-y-auto">
      <div className="mx-auto max-w-[960px] px-4 py-4 md:px-6 md:py-6">
        <Heading>{t('resources.title')}</Heading>
        <nav aria-label={t('resources.title')} className="mt-3 mb-4 flex gap-1 overflow-x-auto">
          {KINDS.map((k) => (
            <Link key={k} to="/resources/$kind" params={{ kind: k }} className="btn btn-quiet" activeProps={{ className: 'border-accent bg-accent-weak text-accent' }}>
              {t(`resources.kinds.${k}`)}
            </Link>
          ))}
        </nav>
        {i18n.exists(`resources.about.${kind}`) && <p className="mb-4 max-w-[640px] text-text-2">{t(`resources.about.${kind}`)}</p>}
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
        <Apply template={TEMPLATES[kind]} />
      </div>
    </main>
  )
}

function One({ item }: { item: Resource }) {
  const { t } = useTranslation()
  const about = item.spec.description
  return (
    <li className="border-b border-line">
      <details className="group">
        <summary className="relative flex min-h-9 cursor-pointer list-none flex-wrap items-center gap-x-3 py-2 pr-2 pl-8 hover:bg-sunken max-md:min-h-12 [&::-webkit-details-marker]:hidden">
          <ChevronRight size={16} strokeWidth={1.5} aria-hidden className="absolute top-2.5 left-2 text-text-3 transition-transform duration-[120ms] group-open:rotate-90" />
          <span className="font-medium">{item.metadata.displayName ?? item.metadata.name}</span>
          <span className="font-mono text-meta text-text-3">{item.metadata.name}</span>
          <span className="text-meta text-text-3">{item.metadata.owner === 'public' ? t('compose.public') : t('compose.mine')}</span>
          {typeof about === 'string' && <span className="basis-full truncate text-text-2">{about}</span>}
        </summary>
        <div className="pr-2 pb-4 pl-8">
          <CodeBlock info="json" code={JSON.stringify(item, null, 2)} />
        </div>
      </details>
    </li>
  )
}

type Outcome = { answer: ApplyAnswer } | { text: string; errors: FieldError[] }

function Apply({ template }: { template: string | undefined }) {
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
      <div className="mb-2 flex flex-wrap items-end justify-between gap-x-4 gap-y-2">
        <p id="apply-hint" className="text-text-2">
          {t('resources.applyHint')}
        </p>
        {template && (
          <button type="button" className="btn" disabled={text.trim() !== ''} onClick={() => setText(template)}>
            {t('resources.template')}
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

function Result({ outcome }: { outcome: Outcome }) {
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
