import { useQuery } from '@tanstack/react-query'
import { getRouteApi, useRouter } from '@tanstack/react-router'
import { useState } from 'react'
import type { FormEvent } from 'react'
import { useTranslation } from 'react-i18next'
import { ApiError, login } from '../api/auth'
import type { Meta } from '../api/types'
import { wordsOf } from '../parts/toast'
import { Card, Fault, Field } from './card'

const route = getRouteApi('/login')

async function readMeta(): Promise<Meta> {
  const response = await fetch('/api/v1/meta')
  if (!response.ok) throw new Error(response.statusText)
  return (await response.json()) as Meta
}

export function LoginPage() {
  const { t } = useTranslation()
  const router = useRouter()
  const { next } = route.useSearch()
  const [name, setName] = useState('')
  const [password, setPassword] = useState('')
  const [fault, setFault] = useState<string | null>(null)
  const [busy, setBusy] = useState(false)
  const meta = useQuery({ queryKey: ['meta'], queryFn: readMeta, staleTime: Infinity })

  const submit = async (e: FormEvent): Promise<void> => {
    e.preventDefault()
    setBusy(true)
    setFault(null)
    try {
      await login(name.trim(), password)
      // Only paths of this console.
      const to = next && /^\/(?![/\\])/.test(next) ? next : '/tasks'
      router.history.replace(to)
    } catch (error) {
      const wrong = error instanceof ApiError && error.problem.status === 401
      setFault(wrong ? t('auth.wrong') : wordsOf(error))
      setBusy(false)
    }
  }

  return (
    <Card title={t('auth.loginTitle')}>
      {meta.data?.setup_needed && <p className="mb-4 text-warn">{t('auth.setupNeeded')}</p>}
      <form onSubmit={(e) => void submit(e)}>
        <Field label={t('auth.name')} name="username" value={name} change={setName} autoComplete="username" autoFocus />
        <Field label={t('auth.password')} name="password" type="password" value={password} change={setPassword} autoComplete="current-password" />
        <Fault text={fault} />
        <button type="submit" className="btn btn-primary w-full" disabled={busy}>
          {t('auth.login')}
        </button>
      </form>
    </Card>
  )
}
