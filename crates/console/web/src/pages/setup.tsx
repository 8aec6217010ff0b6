import { getRouteApi, Link, useNavigate } from '@tanstack/react-router'
import { useEffect, useState } from 'react'
import type { FormEvent } from 'react'
import { useTranslation } from 'react-i18next'
import { ApiError, setup } from '../api/auth'
import { wordsOf } from '../parts/toast'
import { Card, Fault, Field } from './card'

const route = getRouteApi('/setup')
const COMMAND = 'troupe up'

export function SetupPage() {
  const { t } = useTranslation()
  const navigate = useNavigate()
  const { token: fromSearch } = route.useSearch()
  const [token] = useState(() => fromSearch ?? location.hash.replace(/^#(?:token=)?/, ''))
  const [name, setName] = useState('admin')
  const [password, setPassword] = useState('')
  const [again, setAgain] = useState('')
  const [fault, setFault] = useState<string | null>(null)
  const [expired, setExpired] = useState(false)
  const [busy, setBusy] = useState(false)

  // The token is not to stay in the address bar or in the history.
  useEffect(() => {
    if (token) history.replaceState(history.state, '', '/setup')
  }, [token])

  const submit = async (e: FormEvent): Promise<void> => {
    e.preventDefault()
    if ([...password].length < 8) return setFault(t('auth.short'))
    if (password !== again) return setFault(t('auth.mismatch'))
    setBusy(true)
    setFault(null)
    try {
      await setup(token, name.trim(), password)
      await navigate({ to: '/tasks/new', replace: true })
    } catch (error) {
      const status = error instanceof ApiError ? error.problem.status : 0
      if (status === 410 || status === 401 || status === 403) setExpired(true)
      else setFault(wordsOf(error))
      setBusy(false)
    }
  }

  if (!token || expired) {
    return (
      <Card title={t('auth.setupTitle')}>
        <p className="mb-3 text-text-2">{t(expired ? 'auth.expired' : 'auth.noToken')}</p>
        <pre className="mb-4 rounded-control bg-sunken px-3 py-2 font-mono">{COMMAND}</pre>
        <Link to="/login" search={{}} className="btn">
          {t('auth.toLogin')}
        </Link>
      </Card>
    )
  }
  return (
    <Card title={t('auth.setupTitle')}>
      <p className="mb-4 text-text-2">{t('auth.setupLead')}</p>
      <form onSubmit={(e) => void submit(e)}>
        <Field label={t('auth.name')} name="username" value={name} change={setName} autoComplete="username" />
        <Field label={t('auth.password')} name="password" type="password" value={password} change={setPassword} autoComplete="new-password" hint={t('auth.passwordHint')} autoFocus />
        <Field label={t('auth.passwordAgain')} name="password-again" type="password" value={again} change={setAgain} autoComplete="new-password" />
        <Fault text={fault} />
        <button type="submit" className="btn btn-primary w-full" disabled={busy}>
          {t('auth.setup')}
        </button>
      </form>
    </Card>
  )
}
