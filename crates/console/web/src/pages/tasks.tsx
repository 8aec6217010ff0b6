import { keepPreviousData, useInfiniteQuery } from '@tanstack/react-query'
import { getRouteApi, Link, useNavigate } from '@tanstack/react-router'
import { Plus, Search } from 'lucide-react'
import { useState } from 'react'
import { useTranslation } from 'react-i18next'
import { api } from '../api/http'
import type { Status, TaskLite } from '../api/types'
import { useCommands } from '../app/commands'
import type { TaskFilter } from '../app/router'
import { age, fullTime } from '../i18n/format'
import { Empty, Heading, Skeleton, Trouble } from '../parts/page'
import { State } from '../parts/state'

const route = getRouteApi('/app/tasks')

const SHOWS: [TaskFilter['show'], string, Status | undefined][] = [
  [undefined, 'tasks.all', undefined],
  ['needs-you', 'tasks.needsYou', 'PENDING_CONFIRMATION'],
  ['active', 'tasks.active', 'RUNNING'],
  ['done', 'tasks.done', 'COMPLETED'],
  ['failed', 'tasks.failed', 'FAILED'],
]

/** How often the last lines of Tasks at work are read again, in milliseconds. */
const LAST_LINES_EVERY = 4_000

export function useTasks({ show, text }: TaskFilter) {
  const status = SHOWS.find(([known]) => known === show)?.[2]
  return useInfiniteQuery({
    queryKey: ['tasks', status, text],
    queryFn: async ({ pageParam, signal }) => {
      const page = await api.tasks({ status, text, cursor: pageParam, limit: 50 }, signal)
      // A person is awaited by a stage that is to be confirmed, and by agents that ask.
      const asking = show === 'needs-you' && !pageParam ? await api.tasks({ asks: 'true', text, limit: 100 }, signal) : null
      return asking ? { ...page, items: [...asking.items, ...page.items] } : page
    },
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next,
    placeholderData: keepPreviousData,
    // Other changes are told; what agents say as they work is not.
    refetchInterval: ({ state }) => {
      const first = state.data?.pages[0]
      return state.data?.pages.length === 1 && first?.items.some((task) => task.status === 'RUNNING') ? LAST_LINES_EVERY : false
    },
  })
}

/** Each Task once, those first in which something happened last. */
function merged(items: readonly TaskLite[]): TaskLite[] {
  const byId = new Map(items.map((task) => [task.id, task]))
  return [...byId.values()].sort((a, b) => Date.parse(b.updated_at) - Date.parse(a.updated_at))
}

export function TasksPage() {
  const { t } = useTranslation()
  const filter = route.useSearch()
  const navigate = useNavigate()
  const list = useTasks(filter)
  const [typed, setTyped] = useState(filter.text ?? '')
  const items = merged(list.data?.pages.flatMap((p) => p.items) ?? [])
  const filtered = !!filter.show || !!filter.text
  useRowKeys()
  const search = (text: string): void => {
    setTyped(text)
    void navigate({ to: '/tasks', search: { ...filter, text: text || undefined }, replace: true })
  }
  return (
    <main className="min-h-0 flex-1 overflow-y-auto">
      <div className="mx-auto max-w-[960px] px-4 py-4 md:px-6 md:py-6">
        <div className="mb-4 flex items-center justify-between gap-4">
          <Heading>{t('tasks.title')}</Heading>
          <Link to="/tasks/new" search={{}} className="btn btn-primary">
            <Plus size={16} strokeWidth={1.5} aria-hidden />
            {t('tasks.start')}
          </Link>
        </div>
        <div className="mb-3 flex flex-wrap items-center gap-2">
          <label className="relative w-full md:w-64">
            <span className="sr-only">{t('tasks.search')}</span>
            <Search size={16} strokeWidth={1.5} aria-hidden className="absolute top-1/2 left-2.5 -translate-y-1/2 text-text-3" />
            <input className="field h-8 pl-8 max-md:h-11" type="search" placeholder={t('tasks.search')} value={typed} onChange={(e) => search(e.target.value)} />
          </label>
          <div role="group" aria-label={t('tasks.filter')} className="flex max-w-full gap-1 overflow-x-auto">
            {SHOWS.map(([show, label]) => (
              <Link
                key={label}
                to="/tasks"
                search={{ ...filter, show }}
                aria-current={filter.show === show ? 'true' : undefined}
                className={`btn ${filter.show === show ? 'border-accent bg-accent-weak text-accent hover:bg-accent-weak' : 'btn-quiet'}`}
              >
                {t(label)}
              </Link>
            ))}
          </div>
        </div>
        {list.isPending ? (
          <Skeleton />
        ) : list.isError && items.length === 0 ? (
          <Trouble error={list.error} retry={() => void list.refetch()} />
        ) : items.length === 0 ? (
          <NoTasks filtered={filtered} />
        ) : (
          <TaskRows items={items} />
        )}
        {list.hasNextPage && (
          <button type="button" className="btn mt-4" disabled={list.isFetchingNextPage} onClick={() => void list.fetchNextPage()}>
            {t('tasks.more')}
          </button>
        )}
      </div>
    </main>
  )
}

function NoTasks({ filtered }: { filtered: boolean }) {
  const { t } = useTranslation()
  if (filtered) {
    return (
      <Empty text={t('tasks.emptyFiltered')}>
        <Link to="/tasks" search={{}} className="btn">
          {t('tasks.clear')}
        </Link>
      </Empty>
    )
  }
  const samples = t('tasks.samples', { returnObjects: true }) as string[]
  return (
    <Empty text={t('tasks.empty')}>
      <p className="text-text-2">{t('tasks.tryOne')}</p>
      <ul className="flex flex-col gap-2">
        {samples.map((prompt) => (
          <li key={prompt}>
            <Link to="/tasks/new" search={{ prompt }} className="btn h-auto min-h-8 py-1 text-left whitespace-normal">
              {prompt}
            </Link>
          </li>
        ))}
      </ul>
    </Empty>
  )
}

function TaskRows({ items }: { items: TaskLite[] }) {
  const { t } = useTranslation()
  return (
    <ul aria-label={t('tasks.list')} className="border-t border-line">
      {items.map((task) => (
        <li key={task.id} className="border-b border-line">
          <Link
            to="/tasks/$id"
            params={{ id: task.id }}
            data-row
            className="grid grid-cols-[minmax(0,1fr)_auto] gap-x-4 gap-y-0.5 rounded-control px-2 py-2 hover:bg-sunken max-md:py-3 md:grid-cols-[minmax(0,1fr)_140px_190px_48px] md:items-center"
          >
            <span className="min-w-0">
              <span className="block truncate font-medium">{task.title}</span>
              {task.last_line && <span className="block truncate text-text-3">{task.last_line}</span>}
            </span>
            <span className="contents max-md:order-last max-md:col-span-2 max-md:flex max-md:justify-between max-md:gap-4 max-md:text-meta">
              <span className="truncate text-text-2">{task.team_name}</span>
              <span className="flex min-w-0">
                <State status={task.status} asks={task.asks} />
              </span>
            </span>
            <time className="text-right font-mono text-meta text-text-3 tabular-nums" dateTime={task.updated_at} title={fullTime(task.updated_at)}>
              {age(task.updated_at)}
            </time>
          </Link>
        </li>
      ))}
    </ul>
  )
}

/** J and K go through the rows; Enter opens the one with the focus. */
function useRowKeys(): void {
  const { t } = useTranslation()
  const step = (by: 1 | -1): void => {
    const rows = [...document.querySelectorAll<HTMLElement>('main li > a[data-row]')]
    const at = rows.indexOf(document.activeElement as HTMLElement)
    rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by]?.focus()
  }
  useCommands([
    { id: 'next', group: 'page', keys: 'j', label: t('keys.next'), quiet: true, run: () => step(1) },
    { id: 'previous', group: 'page', keys: 'k', label: t('keys.previous'), quiet: true, run: () => step(-1) },
  ])
}

/** The narrow list beside an open Task. */
export function TaskColumn({ current }: { current: string }) {
  const { t } = useTranslation()
  const list = useTasks({})
  const items = list.data?.pages.flatMap((p) => p.items) ?? []
  return (
    <aside aria-label={t('tasks.list')} className="hidden w-[280px] shrink-0 flex-col overflow-y-auto border-r border-line py-2 wide:flex">
      {items.map((task) => (
        <Link
          key={task.id}
          to="/tasks/$id"
          params={{ id: task.id }}
          aria-current={task.id === current ? 'page' : undefined}
          className={`mx-2 flex items-center gap-2 rounded-control px-2 py-2 ${task.id === current ? 'bg-accent-weak' : 'hover:bg-sunken'}`}
        >
          <State status={task.status} asks={task.asks} compact />
          <span className="min-w-0 flex-1">
            <span className="block truncate font-medium">{task.title}</span>
            <span className={`block truncate text-meta ${task.id === current ? 'text-text-2' : 'text-text-3'}`}>{task.team_name}</span>
          </span>
          <time className={`font-mono text-meta tabular-nums ${task.id === current ? 'text-text-2' : 'text-text-3'}`} dateTime={task.updated_at}>
            {age(task.updated_at)}
          </time>
        </Link>
      ))}
    </aside>
  )
}
