import { useQuery } from '@tanstack/react-query'
import { Pause, Play } from 'lucide-react'
import { useState, useSyncExternalStore } from 'react'
import { useTranslation } from 'react-i18next'
import { admin } from '../api/admin'
import type { NodeView, ShardView } from '../api/admin'
import { currentUser, onAuth } from '../api/auth'
import { Actors } from '../cluster/actors'
import { Doctor } from '../cluster/doctor'
import { owners } from '../cluster/map'
import { Nodes } from '../cluster/nodes'
import { Shards } from '../cluster/shards'
import { duration } from '../i18n/format'
import { Empty, Heading, Skeleton, Trouble } from '../parts/page'

const EVERY_MS = 2_000
/** Older figures say how old they are. */
const OLD_MS = 15_000

/** Read again and again while the page is in view; a hidden tab asks for nothing. */
function usePolled<T>(key: string[], ask: (signal: AbortSignal) => Promise<T>, paused: boolean) {
  return useQuery({ queryKey: ['admin', ...key], queryFn: ({ signal }) => ask(signal), refetchInterval: paused ? false : EVERY_MS, staleTime: 0 })
}

export function ClusterPage() {
  const { t } = useTranslation()
  const user = useSyncExternalStore(onAuth, currentUser)
  return (
    <main className="min-h-0 flex-1 overflow-y-auto">
      <div className="mx-auto max-w-[1120px] px-4 py-4 md:px-6 md:py-6">{user?.role === 'admin' ? <Live /> : <NotYours />}</div>
    </main>
  )

  function NotYours() {
    return (
      <>
        <Heading>{t('cluster.title')}</Heading>
        <Empty text={t('cluster.adminsOnly')} />
      </>
    )
  }
}

function Live() {
  const { t } = useTranslation()
  const [paused, setPaused] = useState(false)
  const [chosen, setChosen] = useState<string | undefined>(undefined)
  const nodes = usePolled(['nodes'], admin.nodes, paused)
  const shards = usePolled(['shards'], admin.shards, paused)
  const living = nodes.data?.items.filter((n) => n.state !== 'dead') ?? []
  const shown = living.some((n) => n.name === chosen) ? chosen : living.find((n) => n.is_this)?.name
  const actors = usePolled(['actors', shown ?? ''], (signal) => admin.actors(shown, signal), paused)
  const marks = owners(shards.data?.items ?? [], nodes.data?.items ?? [])
  const old = nodes.isError && nodes.data ? Date.now() - nodes.dataUpdatedAt : 0
  return (
    <>
      <div className="flex flex-wrap items-center justify-between gap-4">
        <Heading>{t('cluster.title')}</Heading>
        <button type="button" className="btn" aria-pressed={paused} onClick={() => setPaused(!paused)}>
          {paused ? <Play size={16} strokeWidth={1.5} aria-hidden /> : <Pause size={16} strokeWidth={1.5} aria-hidden />}
          {t(paused ? 'cluster.goOn' : 'cluster.pause')}
        </button>
      </div>
      {nodes.data && shards.data && <Health nodes={nodes.data.items} shards={shards.data.items} />}
      {old > OLD_MS && <p className="text-warn">{t('cluster.old', { ago: duration(old) })}</p>}
      {nodes.data?.rebalance === 'paused' && <p className="mt-1 text-warn">{t('cluster.rebalancePaused')}</p>}
      {nodes.data?.rebalance === 'slow' && <p className="mt-1 text-warn">{t('cluster.rebalanceSlow')}</p>}
      <div className={`mt-5 flex flex-col gap-9 ${old > OLD_MS ? 'opacity-60' : ''}`}>
        <section aria-labelledby="nodes">
          <h2 id="nodes" className="mb-2 text-section font-semibold">
            {t('cluster.nodes')}
          </h2>
          <Shown of={nodes}>{(data) => <Nodes nodes={data.items} marks={marks} />}</Shown>
        </section>
        <Doctor />
        <section aria-labelledby="shards">
          <h2 id="shards" className="mb-3 text-section font-semibold">
            {t('cluster.shards')}
          </h2>
          <Shown of={shards}>{(data) => <Shards shards={data.items} marks={marks} />}</Shown>
        </section>
        <section aria-labelledby="actors">
          <h2 id="actors" className="mb-2 text-section font-semibold">
            {t('cluster.actorsOf', { node: shown ?? '' })}
          </h2>
          {living.length > 1 && (
            <div role="group" aria-label={t('cluster.nodes')} className="mb-2 flex flex-wrap gap-1">
              {living.map((n) => (
                <button key={n.name} type="button" aria-pressed={n.name === shown} className={`btn ${n.name === shown ? 'border-accent bg-accent-weak text-accent' : 'btn-quiet'}`} onClick={() => setChosen(n.name)}>
                  {n.name}
                </button>
              ))}
            </div>
          )}
          <Shown of={actors}>{(data) => <Actors tree={data} changed={() => void actors.refetch()} />}</Shown>
        </section>
      </div>
    </>
  )
}

/** One sentence: is it well, and what not. */
function Health({ nodes, shards }: { nodes: NodeView[]; shards: ShardView[] }) {
  const { t } = useTranslation()
  const up = nodes.filter((n) => n.state !== 'dead' && !n.unreachable)
  const lost = shards.filter((s) => s.state === 'orphaned' || s.state === 'unowned').length
  const moving = shards.filter((s) => s.state === 'moving').length
  const entities = nodes.reduce((sum, n) => sum + (n.load?.entities ?? 0), 0)
  const parts = [
    t('cluster.nodesUp', { count: up.length }),
    lost > 0 ? t('cluster.lost', { count: lost }) : t('cluster.allOwned', { count: shards.length }),
    moving > 0 ? t('cluster.moving', { count: moving }) : null,
    t('cluster.inMemory', { count: entities }),
  ]
  return <p className={`mt-1 ${lost > 0 ? 'text-danger' : 'text-text-2'}`}>{parts.filter((p) => p !== null).join(' · ')}</p>
}

interface Shows<T> {
  data: T | undefined
  isPending: boolean
  error: unknown
  refetch: () => unknown
}

/** Data once there is some; until then, and without any, what keeps it away. */
function Shown<T>({ of, children }: { of: Shows<T>; children: (data: T) => React.ReactNode }) {
  if (of.data !== undefined) return <>{children(of.data)}</>
  if (of.isPending) return <Skeleton rows={3} />
  return <Trouble error={of.error} retry={() => void of.refetch()} />
}
