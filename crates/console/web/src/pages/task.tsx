import { getRouteApi, Link } from '@tanstack/react-router'
import { useEffect, useRef, useState } from 'react'
import { useTranslation } from 'react-i18next'
import { currentUser } from '../api/auth'
import { Heading, Skeleton, Trouble } from '../parts/page'
import { complain } from '../parts/toast'
import { Composer } from '../task/composer'
import { useTaskCommands } from '../task/commands'
import { SessionProvider, TaskProvider, useSessionState, useTopic } from '../task/hooks'
import { LinkBanner } from '../task/link-banner'
import { TaskSession } from '../task/session'
import { StageStrip } from '../task/stage-strip'
import { TaskHeader } from '../task/task-header'
import { Transcript } from '../task/transcript'
import type { TranscriptHandle } from '../task/transcript'
import type { WriteBoxHandle } from '../task/write-box'
import { TaskColumn } from './tasks'

const route = getRouteApi('/app/tasks/$id')

export function TaskPage() {
  const { id } = route.useParams()
  return (
    <div className="flex min-h-0 flex-1">
      <TaskColumn current={id} />
      <OneTask key={id} id={id} />
    </div>
  )
}

/** Opens a Task while it is shown. */
function useOpened(id: string): TaskSession | null {
  const [session, setSession] = useState<TaskSession | null>(null)
  useEffect(() => {
    const made = new TaskSession(id, currentUser()?.id ?? '')
    setSession(made)
    // For tests and support: what came, what was dropped, what was asked for again.
    Object.assign(window, { troupe: { session: made } })
    return () => made.close()
  }, [id])
  return session
}

function OneTask({ id }: { id: string }) {
  const session = useOpened(id)
  if (!session) return <main className="min-w-0 flex-1" />
  return (
    <SessionProvider value={session}>
      <TaskProvider value={session.id}>
        <Opened session={session} />
      </TaskProvider>
    </SessionProvider>
  )
}

function Opened({ session }: { session: TaskSession }) {
  const { t } = useTranslation()
  useSessionState(session)
  const [sent, setSent] = useState(0)
  const [editing, setEditing] = useState<string | null>(null)
  const box = useRef<WriteBoxHandle>(null)
  const list = useRef<TranscriptHandle>(null)
  useTopic(session.store, 'task')

  const retry = (subtask: string): void => void session.retry(subtask).then(() => setSent((n) => n + 1), complain)
  useTaskCommands({ session, box, list, edit: setEditing, retry })

  if (session.phase === 'gone') {
    return (
      <main className="min-w-0 flex-1 p-6">
        <Heading>{t('task.goneTitle')}</Heading>
        <p className="mt-2 mb-4 text-read text-text-2">{t('task.gone')}</p>
        <Link to="/tasks" search={{}} className="btn">
          {t('nav.back')}
        </Link>
      </main>
    )
  }
  const { store } = session
  const editLast = (): void => {
    const status = store.task?.status ?? ''
    if (['RUNNING', 'PENDING', 'CANCELLING'].includes(status)) return
    const own = store.messages().findLast((r) => r.view.kind === 'user')
    if (own) setEditing(own.view.subtask_id)
  }
  return (
    <main className="flex min-h-0 min-w-0 flex-1 flex-col">
      <TaskHeader jump={(turn) => void list.current?.jump(turn).catch(complain)} show={(key) => list.current?.show(key)} />
      <LinkBanner />
      <StageStrip show={(key) => list.current?.show(key)} />
      {store.log === '' ? (
        <div className="min-h-0 flex-1">
          {session.phase === 'failed' ? <Trouble error={session.error} retry={() => void session.join()} /> : <Skeleton rows={8} />}
        </div>
      ) : (
        <Transcript
          sent={sent}
          handle={list}
          actions={{
            editing,
            edit: setEditing,
            retry,
            askForChanges: () => box.current?.focus(),
          }}
        />
      )}
      <Composer onSent={() => setSent((n) => n + 1)} onUpWhenEmpty={editLast} handle={box} />
    </main>
  )
}
