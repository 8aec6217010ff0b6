import { Link, useRouter } from '@tanstack/react-router'
import { useEffect } from 'react'
import { useTranslation } from 'react-i18next'
import { ApiError, OfflineError } from '../api/auth'

export function Pending() {
  const { t } = useTranslation()
  return (
    <div className="p-6 text-text-3" role="status">
      {t('app.loading')}
    </div>
  )
}

export function NotFound() {
  const { t } = useTranslation()
  return (
    <main className="p-6">
      <h1 className="mb-3 text-section font-semibold">{t('nav.notFound')}</h1>
      <Link to="/tasks" className="btn">
        {t('nav.back')}
      </Link>
    </main>
  )
}

const AGAIN_MS = 2_000

/** A page that could not be shown: offline, refused, or a fault of ours. */
export function Failed({ error }: { error: unknown }) {
  const { t } = useTranslation()
  const router = useRouter()
  const offline = error instanceof OfflineError
  useEffect(() => {
    if (!offline) return
    const timer = setTimeout(() => void router.invalidate(), AGAIN_MS)
    return () => clearTimeout(timer)
  }, [offline, router, error])
  const problem = error instanceof ApiError ? error.problem : null
  return (
    <main className="mx-auto max-w-[560px] p-6" role="alert">
      <h1 className="mb-2 text-section font-semibold">
        {offline ? t('app.offlineTitle') : t('app.failedTitle')}
      </h1>
      <p className="mb-3 text-text-2">
        {offline ? t('app.offlineBody') : (problem?.detail ?? t('app.update'))}
      </p>
      {problem?.request_id && (
        <p className="mb-3 font-mono text-meta text-text-3">
          {t('app.requestId')} {problem.request_id}
        </p>
      )}
      <button type="button" className="btn" onClick={() => (offline ? void router.invalidate() : location.reload())}>
        {offline ? t('app.retry') : t('app.reload')}
      </button>
    </main>
  )
}
