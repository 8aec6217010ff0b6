import { useQuery } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { useState } from 'react'
import { useTranslation } from 'react-i18next'
import { api } from '../api/http'
import type { OpenAsk } from '../api/types'
import { age, fullTime } from '../i18n/format'
import { keep, keyOf } from '../inbox/kept'
import { Empty, Heading, Skeleton, Trouble } from '../parts/page'
import { ActionsProvider } from '../task/actions'
import type { Actions } from '../task/actions'
import { takenWord } from '../task/answering'
import { Approval } from '../task/approval'
import { TaskProvider } from '../task/hooks'
import { Question } from '../task/question'

const nothing = (): void => undefined
/** There is no transcript around the cards here. */
const ACTIONS: Actions = { opened: nothing, retry: nothing, editing: null, edit: nothing, askForChanges: nothing }
/** In case a notice was lost. */
const EVERY_MS = 30_000

const said = (ask: OpenAsk): string | undefined => takenWord(ask.task_id, ask.block.id)

export function InboxPage() {
  const { t } = useTranslation()
  const list = useQuery({ queryKey: ['asks', 'open'], queryFn: ({ signal }) => api.asks(signal), refetchInterval: EVERY_MS, staleTime: 0 })
  const [shown, setShown] = useState<readonly OpenAsk[]>([])
  const next = list.data ? keep(shown, list.data.asks, said, Date.now()) : shown
  // Set while rendering: what is new is drawn at once.
  if (next !== shown) setShown(next)
  return (
    <main className="min-h-0 flex-1 overflow-y-auto">
      <div className="mx-auto max-w-[760px] px-4 py-4 md:px-6 md:py-6">
        <Heading>{t('nav.inbox')}</Heading>
        <p className="mt-1 mb-4 text-text-2">{t('inbox.lead')}</p>
        {list.isError && <Trouble error={list.error} retry={() => void list.refetch()} />}
        {list.isPending ? (
          <Skeleton />
        ) : next.length === 0 ? (
          !list.isError && (
            <Empty text={t('inbox.empty')}>
              <p className="text-text-2">{t('inbox.hint')}</p>
            </Empty>
          )
        ) : (
          <ActionsProvider value={ACTIONS}>
            <ul aria-label={t('inbox.list')} className="flex flex-col gap-6">
              {next.map((ask) => (
                <li key={keyOf(ask)}>
                  <Ask ask={ask} />
                </li>
              ))}
            </ul>
          </ActionsProvider>
        )}
        {list.data?.more && <p className="mt-4 text-text-2">{t('inbox.more')}</p>}
      </div>
    </main>
  )
}

function Ask({ ask }: { ask: OpenAsk }) {
  const { t } = useTranslation()
  const { block, where } = ask
  const place = where.kind === 'device' ? where.name : where.kind === 'container' ? where.id : t('inbox.cluster')
  const at = block.timestamp > 0 ? new Date(block.timestamp).toISOString() : null
  return (
    <TaskProvider value={ask.task_id}>
      <div className="flex flex-wrap items-baseline gap-x-3">
        <h2 className="min-w-0 font-medium">
          <Link to="/tasks/$id" params={{ id: ask.task_id }} className="flex min-h-6 min-w-0 items-center text-accent hover:underline max-md:min-h-11">
            <span className="truncate">{ask.title}</span>
          </Link>
        </h2>
        <span className="min-w-0 truncate text-text-3">{`${ask.team_name} · ${t('inbox.from', { bot: ask.bot_name, place })}`}</span>
        {at && (
          <time className="ml-auto font-mono text-meta text-text-3 tabular-nums" dateTime={at} title={fullTime(at)}>
            {age(at)}
          </time>
        )}
      </div>
      {block.type === 'question' ? <Question block={block} live /> : <Approval block={block} live />}
    </TaskProvider>
  )
}
