import { useSyncExternalStore } from 'react'
import { useTranslation } from 'react-i18next'
import { linkState, onLink, retryNow } from '../api/socket'
import { duration, number } from '../i18n/format'
import { useNow, useSession, useSessionState } from './hooks'

const SILENT_MS = 1_000
const SHORT_MS = 5_000

/** How long the link is gone: 0 while it is there. */
function useGone(): number {
  const state = useSyncExternalStore(onLink, linkState)
  const now = useNow(state.lostAt !== null && !state.up ? 1_000 : null)
  return state.lostAt === null || state.up ? 0 : Math.max(1, now - state.lostAt)
}

/** The word in the header while the link is gone for a moment. */
export function LinkWord() {
  const { t } = useTranslation()
  const gone = useGone()
  if (gone < SILENT_MS || gone >= SHORT_MS) return null
  return (
    <span className="text-meta whitespace-nowrap text-warn" role="status">
      {t('link.short')}
    </span>
  )
}

export function LinkBanner() {
  const { t } = useTranslation()
  const session = useSession()
  useSessionState(session)
  const gone = useGone()
  const { note } = session
  if (gone >= SHORT_MS) {
    return (
      <div role="alert" className="flex flex-wrap items-center gap-x-3 gap-y-1 border-b border-line bg-sunken px-4 py-2 md:px-6">
        <span className="text-warn">{t('link.lost', { ago: duration(gone) })}</span>
        <button type="button" className="btn-link" onClick={retryNow}>
          {t('app.retry')}
        </button>
      </div>
    )
  }
  if (gone === 0 && note) {
    return (
      <div role="status" className="border-b border-line bg-accent-weak px-4 py-2 text-text md:px-6" data-testid="link-note">
        {t(`link.${note.kind}`, { seq: number(note.seq), more: number(note.more) })}
      </div>
    )
  }
  return null
}
