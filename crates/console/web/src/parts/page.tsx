// Loading, empty, failed: one place decides how they look.

import type { ReactNode } from 'react'
import { useEffect, useState } from 'react'
import { useTranslation } from 'react-i18next'
import { ApiError, OfflineError } from '../api/auth'
import { wordsOf } from './toast'

const STILL_MS = 200

export function Skeleton({ rows = 6 }: { rows?: number }) {
  const [shown, setShown] = useState(false)
  const { t } = useTranslation()
  useEffect(() => {
    const timer = setTimeout(() => setShown(true), STILL_MS)
    return () => clearTimeout(timer)
  }, [])
  if (!shown) return null
  return (
    <div role="status" aria-label={t('app.loading')} className="flex flex-col gap-3 p-4">
      {Array.from({ length: rows }, (_, i) => (
        <div key={i} className="h-5 rounded-control bg-sunken" style={{ width: `${90 - ((i * 17) % 40)}%` }} />
      ))}
    </div>
  )
}

export function Trouble({ error, retry }: { error: unknown; retry?: () => void }) {
  const { t } = useTranslation()
  const problem = error instanceof ApiError ? error.problem : null
  return (
    <div role="alert" className="m-4 rounded-panel border border-line bg-surface p-4">
      <p className="font-medium">{wordsOf(error)}</p>
      {error instanceof OfflineError && <p className="mt-1 text-text-2">{t('app.offlineBody')}</p>}
      {problem && (
        <p className="mt-1 font-mono text-meta text-text-3">
          {problem.code}
          {problem.request_id && ` · ${t('app.requestId')} ${problem.request_id}`}
        </p>
      )}
      {retry && (
        <button type="button" className="btn mt-3" onClick={retry}>
          {t('app.retry')}
        </button>
      )}
    </div>
  )
}

export function Empty({ text, children }: { text: string; children?: ReactNode }) {
  return (
    <div className="flex max-w-[560px] flex-col items-start gap-4 py-6">
      <p className="text-read text-text-2">{text}</p>
      {children}
    </div>
  )
}

/** The heading of a page, and the title of the tab. */
export function Heading({ children }: { children: ReactNode }) {
  return (
    <>
      <title>{typeof children === 'string' ? `${children} · Troupe` : 'Troupe'}</title>
      <h1 tabIndex={-1} className="text-page font-semibold">{children}</h1>
    </>
  )
}
