import { useQuery } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { useTranslation } from 'react-i18next'
import { api } from '../api/http'
import type { MessageView } from '../api/types'
import { fullTime } from '../i18n/format'
import { Markdown } from '../parts/markdown'
import { Heading, Skeleton, Trouble } from '../parts/page'
import { State } from '../parts/state'
import { useSender, useStep } from '../task/head'

const route = getRouteApi('/app/tasks/$id/plain')

/** Every turn, for finding, printing and readers. */
async function everything(id: string) {
  const { task, turns, outline } = await api.join(id)
  const all = [...turns]
  let before: string | undefined = outline[0]?.turn_id === all[0]?.turn_id ? undefined : all[0]?.turn_id
  while (before) {
    const page = await api.turns(id, before)
    if (page.turns.length === 0) break
    all.unshift(...page.turns)
    before = page.before
  }
  return { task, messages: all.flatMap((turn) => turn.messages) }
}

export function PlainPage() {
  const { t } = useTranslation()
  const { id } = route.useParams()
  const whole = useQuery({ queryKey: ['plain', id], queryFn: () => everything(id), staleTime: 0 })
  return (
    <main className="min-h-0 flex-1 overflow-y-auto">
      <div className="mx-auto max-w-[752px] px-4 py-6 md:px-6">
        <Link to="/tasks/$id" params={{ id }} className="btn mb-4 print:hidden">
          {t('task.plainBack')}
        </Link>
        {whole.isPending ? (
          <Skeleton />
        ) : whole.isError ? (
          <Trouble error={whole.error} retry={() => void whole.refetch()} />
        ) : (
          <>
            <Heading>{whole.data.task.title}</Heading>
            {whole.data.messages.map((view) => (
              <Message key={view.subtask_id} view={view} />
            ))}
          </>
        )}
      </div>
    </main>
  )
}

function Message({ view }: { view: MessageView }) {
  const sender = useSender()
  const step = useStep()
  return (
    <article className="mt-6 [content-visibility:auto]">
      <h2 className="mb-1 flex flex-wrap items-center gap-x-3 font-semibold">
        {sender(view)}
        <span className="text-meta font-normal text-text-3">{[step(view.step), fullTime(view.created_at)].filter(Boolean).join(' · ')}</span>
        {view.status !== 'COMPLETED' && <State status={view.status} />}
      </h2>
      <div className="prose">
        <Markdown source={view.content} />
      </div>
    </article>
  )
}
