import { useQuery } from '@tanstack/react-query'
import { CircleCheck, OctagonX, TriangleAlert } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { admin } from '../api/admin'
import type { Check } from '../api/admin'
import { clock } from '../i18n/format'
import { Trouble } from '../parts/page'

const GLYPH = { ok: CircleCheck, warn: TriangleAlert, fail: OctagonX } as const
const COLOUR = { ok: 'text-success', warn: 'text-warn', fail: 'text-danger' } as const

/** What can be checked is checked when somebody asks. */
export function Doctor() {
  const { t } = useTranslation()
  const report = useQuery({ queryKey: ['admin', 'doctor'], queryFn: () => admin.doctor(), enabled: false, retry: false })
  const checks = report.data?.checks ?? []
  const bad = checks.filter((c) => c.state !== 'ok').sort((a, b) => Number(b.state === 'fail') - Number(a.state === 'fail'))
  const good = checks.filter((c) => c.state === 'ok')
  return (
    <section aria-labelledby="checks">
      <div className="mb-2 flex flex-wrap items-center gap-x-4 gap-y-2">
        <h2 id="checks" className="text-section font-semibold">
          {t('cluster.checks')}
        </h2>
        <button type="button" className="btn" disabled={report.isFetching} onClick={() => void report.refetch()}>
          {t(report.isFetching ? 'cluster.checking' : 'cluster.check')}
        </button>
        {report.data && <span className="text-meta text-text-3">{t('cluster.checkedAt', { at: clock(report.data.at), ms: report.data.took_ms })}</span>}
      </div>
      {report.isError && <Trouble error={report.error} />}
      {report.data && (
        <div role="status">
          <p className={COLOUR[report.data.state]}>{t(`cluster.verdict.${report.data.state}`)}</p>
          <List checks={bad} />
          <details className="mt-2">
            <summary className="inline-flex min-h-8 cursor-pointer items-center text-text-2">{t('cluster.went', { count: good.length })}</summary>
            <List checks={good} />
          </details>
        </div>
      )}
    </section>
  )
}

function List({ checks }: { checks: Check[] }) {
  const { t, i18n } = useTranslation()
  return (
    <ul>
      {checks.map((check) => {
        const Glyph = GLYPH[check.state]
        const key = `cluster.checkNames.${check.name}`
        return (
          <li key={check.name} className="flex gap-3 border-b border-line py-2" data-check={check.name}>
            <Glyph size={16} strokeWidth={1.5} aria-label={t(`cluster.checkStates.${check.state}`)} className={`mt-0.5 shrink-0 ${COLOUR[check.state]}`} />
            <div className="min-w-0">
              <p>
                <span className="font-medium">{i18n.exists(key) ? t(key) : check.title}</span>
                {check.invariant && <span className="ml-2 font-mono text-meta text-text-3">{check.invariant}</span>}
              </p>
              <p className="text-text-2">{check.found}</p>
              {check.fix && <p className="text-text-2">{check.fix}</p>}
            </div>
          </li>
        )
      })}
    </ul>
  )
}
