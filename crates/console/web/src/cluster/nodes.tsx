import { useTranslation } from 'react-i18next'
import type { NodeView } from '../api/admin'
import { duration, number } from '../i18n/format'
import { Mark } from '../parts/mark'

const COLOUR: Record<string, string> = { alive: 'text-success', draining: 'text-warn', dead: 'text-text-3', silent: 'text-danger' }

export const mib = (bytes: number): string => `${number(Math.round(bytes / 1_048_576))} MiB`

export function Nodes({ nodes, marks }: { nodes: NodeView[]; marks: string[] }) {
  const { t } = useTranslation()
  return (
    <ul aria-label={t('cluster.nodes')} className="border-t border-line">
      {nodes.map((node) => (
        <One key={node.name} node={node} mark={marks.indexOf(node.name)} />
      ))}
    </ul>
  )
}

function One({ node, mark }: { node: NodeView; mark: number }) {
  const { t } = useTranslation()
  const state = node.unreachable ? 'silent' : node.state
  const left = node.lease_left_ms
  const seconds = Math.round(Math.abs(left ?? 0) / 1000)
  const lease = left === undefined ? t('cluster.noLease') : left < 0 ? t('cluster.overdue', { seconds }) : t('cluster.leaseLeft', { seconds })
  const load = node.load
  const facts: [string, string][] = [
    ['cluster.lease', lease],
    ['cluster.shards', load ? number(load.shards) : '?'],
    ['cluster.entities', load ? number(load.entities) : '?'],
    ['cluster.queued', load ? number(load.queued) : '?'],
    ['cluster.memory', load ? mib(load.memory_bytes) : '?'],
    ['cluster.up', load ? duration(load.uptime_seconds * 1000) : '?'],
    ['cluster.starts', number(node.incarnation)],
    ['cluster.build', node.build],
  ]
  return (
    <li className="border-b border-line py-3">
      <p className="flex flex-wrap items-center gap-x-3 gap-y-1">
        <Mark index={mark} />
        <span className="font-medium">{node.name}</span>
        <span className={COLOUR[state] ?? ''}>{t(`cluster.state.${state}`)}</span>
        {node.is_this && <span className="text-meta text-text-3">{t('cluster.this')}</span>}
        <span className="text-meta text-text-3">{node.roles.join(', ')}</span>
        {node.http && <span className="font-mono text-meta text-text-3">{node.http}</span>}
      </p>
      {node.unreachable && <p className="mt-1 text-danger">{node.unreachable}</p>}
      <dl className="mt-2 grid grid-cols-[repeat(auto-fill,minmax(104px,1fr))] gap-x-4 gap-y-2">
        {facts.map(([label, value]) => (
          <div key={label}>
            <dt className="text-meta text-text-3">{t(label)}</dt>
            <dd className="font-mono tabular-nums">{value}</dd>
          </div>
        ))}
      </dl>
    </li>
  )
}
