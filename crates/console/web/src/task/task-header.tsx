import { useQueryClient } from '@tanstack/react-query'
import { Link, useNavigate } from '@tanstack/react-router'
import { ArrowLeft, MoreHorizontal, Square, Users } from 'lucide-react'
import { AlertDialog, DropdownMenu } from 'radix-ui'
import { lazy, Suspense, useRef, useState } from 'react'
import { useTranslation } from 'react-i18next'
import { currentUser } from '../api/auth'
import { api } from '../api/http'
import { copyText } from '../parts/ids'
import { Diamond, State } from '../parts/state'
import { complain, toast } from '../parts/toast'
import { useSession, useTopic } from './hooks'
import { LinkWord } from './link-banner'
import { useOutline } from './minimap'

const Outline = lazy(() => import('./outline').then((m) => ({ default: m.Outline })))

const ITEM =
  'flex h-9 cursor-pointer items-center rounded-control px-3 outline-none data-highlighted:bg-sunken max-md:h-11'

interface HeaderProps {
  jump: (turn: string) => void
  show: (key: string) => void
}

export function TaskHeader({ jump, show }: HeaderProps) {
  const { t } = useTranslation()
  const session = useSession()
  const { store } = session
  useTopic(store, 'task')
  const outlined = useOutline() !== null
  const { task } = store
  const open = store.open()
  const [renaming, setRenaming] = useState(false)
  const active = task && ['RUNNING', 'PENDING', 'CANCELLING'].includes(task.status)
  const others = store.viewers.filter((v) => v.user_id !== currentUser()?.id).length
  const last = store.messages().at(-1)?.view.attempts.at(-1)
  return (
    <header className="flex h-12 shrink-0 items-center gap-3 border-b border-line px-2 md:px-6">
      <title>{`${task?.title ?? ''} · Troupe`}</title>
      <Link to="/tasks" search={{}} aria-label={t('nav.back')} title={t('nav.back')} className="btn btn-quiet btn-icon wide:hidden">
        <ArrowLeft size={20} strokeWidth={1.5} />
      </Link>
      <div className="flex min-w-0 flex-1 flex-col md:flex-row md:items-center md:gap-3">
        {renaming && task ? (
          <Rename title={task.title} done={() => setRenaming(false)} />
        ) : (
          <h1 tabIndex={-1} title={task?.title} className="min-w-0 truncate font-semibold md:text-[15px]">{task?.title}</h1>
        )}
        {task && (
          <span className="flex min-w-0 items-center gap-3 text-meta md:max-w-[60%] md:shrink-0 md:text-ui">
            <span className="truncate text-text-3 max-md:hidden">{task.team_name}</span>
            {open && task.status === 'RUNNING' ? (
              <button type="button" className="inline-flex min-h-6 items-center gap-1.5 text-warn underline underline-offset-2" onClick={() => show(open.key)}>
                <Diamond />
                {t('asks.states.pending')}
              </button>
            ) : (
              <State status={task.status} wait={task.wait} resuming={last?.error?.continues} />
            )}
          </span>
        )}
      </div>
      <LinkWord />
      {others > 0 && (
        <span className="flex items-center gap-1 text-meta text-text-3" title={t('task.viewers', { count: others })}>
          <Users size={16} strokeWidth={1.5} aria-hidden />
          {others}
          <span className="sr-only">{t('task.viewers', { count: others })}</span>
        </span>
      )}
      {active && (
        <button type="button" className="btn max-md:h-9" aria-keyshortcuts="Control+." disabled={task.status === 'CANCELLING'} onClick={() => session.stop().catch(complain)}>
          <Square size={14} strokeWidth={1.5} aria-hidden />
          {t(task.status === 'CANCELLING' ? 'task.stopping' : 'task.stop')}
        </button>
      )}
      {outlined && (
        <Suspense fallback={<span className="size-8" />}>
          <Outline jump={jump} />
        </Suspense>
      )}
      <Menu rename={() => setRenaming(true)} />
    </header>
  )
}

function Rename({ title, done }: { title: string; done: () => void }) {
  const { t } = useTranslation()
  const session = useSession()
  const [text, setText] = useState(title)
  const save = async (): Promise<void> => {
    if (text.trim() !== '' && text !== title) {
      await api.rename(session.id, text.trim()).catch(complain)
    }
    done()
  }
  return (
    <form
      className="min-w-0 flex-1"
      onSubmit={(e) => {
        e.preventDefault()
        void save()
      }}
    >
      <input
        className="field h-8"
        aria-label={t('task.renamePrompt')}
        value={text}
        maxLength={256}
        autoFocus
        onChange={(e) => setText(e.target.value)}
        onBlur={() => void save()}
        onKeyDown={(e) => {
          if (e.key === 'Escape') done()
        }}
      />
    </form>
  )
}

function Menu({ rename }: { rename: () => void }) {
  const { t } = useTranslation()
  const session = useSession()
  const navigate = useNavigate()
  const queries = useQueryClient()
  const [asking, setAsking] = useState(false)
  /** The field of the title takes the focus, not the button of the menu. */
  const renames = useRef(false)
  const copyId = async (): Promise<void> => {
    const done = await copyText(session.id)
    toast(t(done ? 'app.copied' : 'app.copyFailed'), !done)
  }
  const remove = async (): Promise<void> => {
    try {
      await api.remove(session.id)
      void queries.invalidateQueries({ queryKey: ['tasks'] })
      await navigate({ to: '/tasks', search: {} })
    } catch (error) {
      complain(error)
    }
  }
  return (
    <>
      <DropdownMenu.Root>
        <DropdownMenu.Trigger aria-label={t('task.menu')} title={t('task.menu')} className="btn btn-quiet btn-icon">
          <MoreHorizontal size={16} strokeWidth={1.5} />
        </DropdownMenu.Trigger>
        <DropdownMenu.Portal>
          <DropdownMenu.Content align="end" sideOffset={4} collisionPadding={8} className="z-40 min-w-44 rounded-panel border border-line bg-surface p-1 shadow-pop" onCloseAutoFocus={(e) => {
              if (renames.current) e.preventDefault()
              renames.current = false
            }}>
            <DropdownMenu.Item
              className={ITEM}
              onSelect={() => {
                renames.current = true
                setTimeout(rename)
              }}
            >
              {t('task.rename')}
            </DropdownMenu.Item>
            <DropdownMenu.Item className={ITEM} onSelect={() => void navigate({ to: '/tasks/$id/plain', params: { id: session.id } })}>
              {t('task.plain')}
            </DropdownMenu.Item>
            <DropdownMenu.Item className={ITEM} onSelect={() => void copyId()}>
              {t('task.copyId')}
            </DropdownMenu.Item>
            <DropdownMenu.Separator className="my-1 h-px bg-line" />
            <DropdownMenu.Item className={`${ITEM} text-danger`} onSelect={() => setTimeout(() => setAsking(true))}>
              {t('task.delete')}
            </DropdownMenu.Item>
          </DropdownMenu.Content>
        </DropdownMenu.Portal>
      </DropdownMenu.Root>
      <AlertDialog.Root open={asking} onOpenChange={setAsking}>
        <AlertDialog.Portal>
          <AlertDialog.Overlay className="fixed inset-0 z-40 bg-[rgb(0_0_0/40%)]" />
          <AlertDialog.Content className="fixed top-1/3 left-1/2 z-50 w-[min(92vw,400px)] -translate-x-1/2 rounded-dialog border border-line bg-surface p-5 shadow-pop">
            <AlertDialog.Title className="mb-1 font-semibold">{t('task.delete')}</AlertDialog.Title>
            <AlertDialog.Description className="mb-4 text-text-2">{t('task.deleteAsk')}</AlertDialog.Description>
            <div className="flex justify-end gap-3">
              <AlertDialog.Cancel className="btn">{t('app.cancel')}</AlertDialog.Cancel>
              <AlertDialog.Action className="btn border-danger text-danger" onClick={() => void remove()}>
                {t('task.delete')}
              </AlertDialog.Action>
            </div>
          </AlertDialog.Content>
        </AlertDialog.Portal>
      </AlertDialog.Root>
    </>
  )
}
