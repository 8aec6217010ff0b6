import { Link, Outlet, useNavigate, useRouterState } from '@tanstack/react-router'
import { Boxes, Inbox, Laptop, ListTodo, MoreHorizontal, Network, Plus, Search } from 'lucide-react'
import { useEffect, useSyncExternalStore } from 'react'
import type { ReactNode } from 'react'
import { useTranslation } from 'react-i18next'
import { currentUser, onAuth } from '../api/auth'
import { link, linkState, onLink } from '../api/socket'
import { Announcer } from '../parts/announce'
import { KeyBoard, openPalette } from './keys'
import { Keys } from './keycap'
import { useFocusOnRoute } from './route-focus'
import { UserMenu } from './user-menu'
import { useAskCount, useLiveLists } from './live-lists'

/** Rail, or bottom bar on phones, around every page of somebody who is logged in. */
export function Shell() {
  const { t } = useTranslation()
  const navigate = useNavigate()
  const user = useSyncExternalStore(onAuth, currentUser)
  const path = useRouterState({ select: (s) => s.location.pathname })
  const inTask = /^\/tasks\/(?!new$)[^/]+/.test(path)
  // The page that is shown, not the one that is still being loaded.
  useFocusOnRoute(useRouterState({ select: (s) => s.resolvedLocation?.pathname ?? '' }))
  useLiveLists()
  const asks = useAskCount(!!user)
  useEffect(() => {
    if (user) link()
  }, [user])
  useEffect(() => {
    if (!user) void navigate({ to: '/login', search: { next: location.pathname + location.search } })
  }, [user, navigate])
  if (!user) return null
  return (
    <div className="flex h-dvh flex-col md:flex-row">
      <a
        href="#content"
        className="sr-only rounded-control bg-accent text-on-accent focus:not-sr-only focus:fixed focus:top-2 focus:left-2 focus:z-50 focus:px-3 focus:py-2"
      >
        {t('nav.skip')}
      </a>
      <nav
        aria-label={t('nav.label')}
        className="hidden w-14 shrink-0 flex-col border-r border-line py-3 md:flex wide:w-52"
      >
        <div className="mb-4 hidden items-center gap-2 px-4 font-semibold wide:flex">
          <img src="/icon.svg" alt="" width={20} height={20} />
          <span translate="no">{PRODUCT}</span>
        </div>
        <Rail to="/tasks/new" icon={<Plus size={16} strokeWidth={1.5} />} label={t('nav.newTask')} />
        <Rail to="/inbox" icon={<Inbox size={16} strokeWidth={1.5} />} label={t('nav.inbox')} count={asks} />
        <Rail to="/tasks" exact icon={<ListTodo size={16} strokeWidth={1.5} />} label={t('nav.tasks')} also={inTask} />
        <Rail to="/devices" icon={<Laptop size={16} strokeWidth={1.5} />} label={t('nav.devices')} />
        <Rail to="/resources/$kind" icon={<Boxes size={16} strokeWidth={1.5} />} label={t('nav.resources')} />
        {user.role === 'admin' && <Rail to="/ops/cluster" icon={<Network size={16} strokeWidth={1.5} />} label={t('nav.cluster')} />}
        <button
          type="button"
          title={t('palette.title')}
          aria-keyshortcuts="Control+K"
          className="mx-2 mt-2 flex h-9 items-center justify-center gap-3 rounded-control px-2 text-text-2 hover:bg-sunken wide:justify-start"
          onClick={openPalette}
        >
          <Search size={16} strokeWidth={1.5} />
          <span className="sr-only flex-1 text-left wide:not-sr-only">{t('palette.open')}</span>
          <span aria-hidden className="hidden wide:inline-flex">
            <Keys keys="mod+k" />
          </span>
        </button>
        <div className="mt-auto flex flex-col gap-1">
          <LinkDot />
          <UserMenu wide />
        </div>
      </nav>
      <div id="content" tabIndex={-1} className="flex min-h-0 min-w-0 flex-1 flex-col outline-none">
        <Outlet />
      </div>
      {!inTask && (
        <nav
          aria-label={t('nav.label')}
          className="flex h-14 shrink-0 items-stretch justify-around border-t border-line bg-surface pb-[env(safe-area-inset-bottom)] md:hidden"
        >
          <Tab to="/inbox" icon={<Inbox size={20} strokeWidth={1.5} />} label={t('nav.inbox')} count={asks} />
          <Tab to="/tasks" icon={<ListTodo size={20} strokeWidth={1.5} />} label={t('nav.tasks')} />
          <Tab to="/tasks/new" icon={<Plus size={20} strokeWidth={1.5} />} label={t('nav.newTask')} />
          <Tab to="/devices" icon={<Laptop size={20} strokeWidth={1.5} />} label={t('nav.devices')} />
          <Tab to="/resources/$kind" icon={<Boxes size={20} strokeWidth={1.5} />} label={t('nav.resources')} />
          <UserMenu icon={<MoreHorizontal size={20} strokeWidth={1.5} />} />
        </nav>
      )}
      <Announcer />
      <KeyBoard />
    </div>
  )
}

const PRODUCT = 'Troupe'

type Target = '/inbox' | '/tasks' | '/tasks/new' | '/devices' | '/resources/$kind' | '/ops/cluster'

interface NavProps {
  to: Target
  icon: ReactNode
  label: string
  exact?: boolean
  also?: boolean
  /** What waits there for a person. */
  count?: number
}

const params = (to: Target) => (to === '/resources/$kind' ? { kind: 'teams' } : {})

const COUNT_MAX = 99

/** Read out as a sentence, seen as a figure. */
function Count({ of }: { of: number }) {
  const { t } = useTranslation()
  return (
    <span className="min-w-5 rounded-full bg-warn px-1.5 text-center text-meta font-semibold text-bg tabular-nums">
      <span aria-hidden>{of > COUNT_MAX ? `${COUNT_MAX}+` : of}</span>
      <span className="sr-only">{t('nav.waiting', { count: of })}</span>
    </span>
  )
}

function Rail({ to, icon, label, exact, also, count = 0 }: NavProps) {
  return (
    <Link
      to={to}
      params={params(to)}
      title={label}
      activeOptions={{ exact: exact ?? false, includeSearch: false }}
      activeProps={{ className: 'bg-accent-weak text-accent' }}
      className={`relative mx-2 flex h-9 items-center justify-center gap-3 rounded-control px-2 font-medium hover:bg-sunken wide:justify-start ${also ? 'bg-accent-weak text-accent' : ''}`}
    >
      {icon}
      <span className="sr-only wide:not-sr-only">{label}</span>
      {count > 0 && (
        <span className="absolute -top-1 -right-1 flex wide:static wide:ml-auto">
          <Count of={count} />
        </span>
      )}
    </Link>
  )
}

function Tab({ to, icon, label, count = 0 }: NavProps) {
  return (
    <Link
      to={to}
      params={params(to)}
      activeOptions={{ exact: true, includeSearch: false }}
      activeProps={{ className: 'font-semibold text-accent' }}
      inactiveProps={{ className: 'text-text-2' }}
      className="relative flex min-w-14 flex-col items-center justify-center gap-0.5 text-meta"
    >
      {icon}
      {label}
      {count > 0 && (
        <span className="absolute top-1 left-1/2 ml-1.5 flex">
          <Count of={count} />
        </span>
      )}
    </Link>
  )
}

function LinkDot() {
  const { t } = useTranslation()
  const state = useSyncExternalStore(onLink, linkState)
  if (state.up || !state.everUp) return null
  return (
    <div className="flex items-center justify-center gap-2 px-4 py-1 text-meta text-warn wide:justify-start" role="status">
      <span className="size-2 rounded-full border border-current" aria-hidden />
      <span className="sr-only wide:not-sr-only">{t('link.down')}</span>
    </div>
  )
}
