// The live supervision tree of one node: what is behind, what crashed, and begun anew from here.

import { useVirtualizer } from '@tanstack/react-virtual'
import { ChevronRight } from 'lucide-react'
import { useMemo, useRef, useState } from 'react'
import { useTranslation } from 'react-i18next'
import { admin } from '../api/admin'
import type { ActorTree, ActorView } from '../api/admin'
import { duration, number } from '../i18n/format'
import { complain, toast } from '../parts/toast'
import { rows } from './tree'
import type { Order, Row } from './tree'

const ROW_PX = 36
const ORDERS: Order[] = ['tree', 'queue', 'restarts']
const GRID = 'grid grid-cols-[minmax(0,1fr)_64px_52px] md:grid-cols-[minmax(0,1.4fr)_88px_72px_72px_64px_minmax(0,1fr)] items-center gap-x-3 px-2'

export function Actors({ tree, changed }: { tree: ActorTree; changed: () => void }) {
  const { t } = useTranslation()
  const [order, setOrder] = useState<Order>('tree')
  const [text, setText] = useState('')
  const [shut, setShut] = useState<ReadonlySet<string>>(new Set())
  const [opened, setOpened] = useState<ReadonlySet<string>>(new Set())
  const [chosen, setChosen] = useState<string | null>(null)
  // Shards are folded until somebody opens them, what is above them is not.
  const open = useMemo(() => {
    const first = tree.items.filter((a) => !a.entity && !a.name.startsWith('shard ')).concat(tree.items.filter((a) => a.name === 'shard host'))
    return new Set([...first.map((a) => a.id).filter((id) => !shut.has(id)), ...opened])
  }, [tree, shut, opened])
  const list = useMemo(() => rows(tree.items, { order, text, open }), [tree, order, text, open])
  const toggle = (id: string): void => {
    const isOpen = open.has(id)
    setOpened((before) => new Set(isOpen ? [...before].filter((x) => x !== id) : [...before, id]))
    setShut((before) => new Set(isOpen ? [...before, id] : [...before].filter((x) => x !== id)))
  }
  const one = tree.items.find((a) => a.entity === chosen)
  return (
    <>
      <div className="mb-2 flex flex-wrap items-center gap-2">
        <input className="field h-8 max-md:h-11 md:w-64" type="search" aria-label={t('cluster.find')} placeholder={t('cluster.find')} value={text} onChange={(e) => setText(e.target.value)} />
        <div role="group" aria-label={t('cluster.order')} className="flex gap-1">
          {ORDERS.map((o) => (
            <button key={o} type="button" aria-pressed={order === o} className={`btn ${order === o ? 'border-accent bg-accent-weak text-accent hover:bg-accent-weak' : 'btn-quiet'}`} onClick={() => setOrder(o)}>
              {t(`cluster.orders.${o}`)}
            </button>
          ))}
        </div>
      </div>
      {one && <Chosen actor={one} changed={changed} close={() => setChosen(null)} />}
      <Table list={list} open={open} toggle={toggle} choose={setChosen} chosen={chosen} />
      {tree.left_out > 0 && <p className="mt-2 text-text-3">{t('cluster.leftOut', { count: tree.left_out })}</p>}
    </>
  )
}

interface TableProps {
  list: Row[]
  open: ReadonlySet<string>
  toggle: (id: string) => void
  choose: (entity: string) => void
  chosen: string | null
}

function Table({ list, open, toggle, choose, chosen }: TableProps) {
  const { t } = useTranslation()
  const box = useRef<HTMLDivElement>(null)
  const virtual = useVirtualizer({ count: list.length, getScrollElement: () => box.current, estimateSize: () => ROW_PX, overscan: 8 })
  return (
    <div ref={box} role="table" aria-label={t('cluster.actors')} aria-rowcount={list.length + 1} tabIndex={0} className="h-[min(60vh,480px)] overflow-y-auto rounded-panel border border-line">
      <div role="row" aria-rowindex={1} className={`${GRID} sticky top-0 z-10 h-8 border-b border-line bg-bg text-meta text-text-3`}>
        <span role="columnheader">{t('cluster.actor')}</span>
        <span role="columnheader" className="max-md:hidden">{t('cluster.stateOf')}</span>
        <span role="columnheader" className="text-right">{t('cluster.queue')}</span>
        <span role="columnheader" className="text-right">{t('cluster.restarts')}</span>
        <span role="columnheader" className="text-right max-md:hidden">{t('cluster.age')}</span>
        <span role="columnheader" className="max-md:hidden">{t('cluster.lastError')}</span>
      </div>
      <div role="rowgroup" className="relative" style={{ height: virtual.getTotalSize() }}>
        {virtual.getVirtualItems().map((item) => {
          const row = list[item.index]!
          return (
            <div
              key={row.actor.id}
              role="row"
              aria-rowindex={item.index + 2}
              className={`${GRID} absolute inset-x-0 border-b border-line ${row.actor.entity === chosen && chosen !== null ? 'bg-accent-weak' : ''}`}
              style={{ height: ROW_PX, transform: `translateY(${item.start}px)` }}
            >
              <Cells row={row} isOpen={open.has(row.actor.id)} toggle={toggle} choose={choose} />
            </div>
          )
        })}
      </div>
    </div>
  )
}

interface CellsProps {
  row: Row
  isOpen: boolean
  toggle: (id: string) => void
  choose: (entity: string) => void
}

function Cells({ row, isOpen, toggle, choose }: CellsProps) {
  const { t } = useTranslation()
  const { actor, depth, below } = row
  const name = actor.entity ?? actor.name
  return (
    <>
      <span role="cell" className="flex min-w-0 items-center gap-1" style={{ paddingLeft: Math.min(depth, 4) * 14 }}>
        {below > 0 ? (
          <button type="button" className="btn-glyph" aria-expanded={isOpen} aria-label={t(isOpen ? 'cluster.fold' : 'cluster.unfold', { name })} onClick={() => toggle(actor.id)}>
            <ChevronRight size={16} strokeWidth={1.5} className={isOpen ? 'rotate-90' : ''} />
          </button>
        ) : (
          <span className="w-7 shrink-0" aria-hidden />
        )}
        {actor.entity ? (
          <button type="button" className="btn-link min-w-0 truncate font-mono text-meta" onClick={() => choose(actor.entity!)}>
            <span className="truncate">{name}</span>
          </button>
        ) : (
          <span className="truncate">{name}</span>
        )}
        {below > 0 && !isOpen && <span className="shrink-0 font-mono text-meta text-text-2">{number(below)}</span>}
      </span>
      <span role="cell" className={`max-md:hidden ${actor.state === 'resting' ? 'text-warn' : 'text-text-2'}`}>
        {t(`cluster.doing.${actor.state}`)}
      </span>
      <Figure n={actor.queue} loud={actor.queue > 100} />
      <Figure n={actor.restarts} loud={actor.restarts > 0} />
      <span role="cell" className="text-right font-mono text-meta text-text-2 max-md:hidden">
        {duration(actor.age_seconds * 1000)}
      </span>
      <span role="cell" className="truncate text-meta text-text-2 max-md:hidden" title={actor.last_error}>
        {actor.last_error}
      </span>
    </>
  )
}

function Figure({ n, loud }: { n: number; loud: boolean }) {
  return (
    <span role="cell" className={`text-right font-mono tabular-nums ${loud ? 'text-warn' : 'text-text-2'}`}>
      {number(n)}
    </span>
  )
}

function Chosen({ actor, changed, close }: { actor: ActorView; changed: () => void; close: () => void }) {
  const { t } = useTranslation()
  const [busy, setBusy] = useState(false)
  const act = async (verb: 'restart' | 'passivate'): Promise<void> => {
    setBusy(true)
    try {
      const done = await admin[verb](actor.entity!)
      toast(t(`cluster.outcome.${done.outcome}`), done.outcome === 'not_idle')
      changed()
    } catch (error) {
      complain(error)
    } finally {
      setBusy(false)
    }
  }
  return (
    <div className="mb-2 flex flex-wrap items-center gap-x-4 gap-y-2 rounded-panel border border-line bg-surface px-3 py-2">
      <span className="min-w-0 font-mono text-meta">{actor.entity}</span>
      {actor.last_error && <span className="basis-full text-warn">{actor.last_error}</span>}
      <span className="flex flex-wrap gap-2">
        <button type="button" className="btn" disabled={busy} title={t('cluster.restartHint')} onClick={() => void act('restart')}>
          {t('cluster.restart')}
        </button>
        <button type="button" className="btn" disabled={busy} title={t('cluster.passivateHint')} onClick={() => void act('passivate')}>
          {t('cluster.passivate')}
        </button>
        <button type="button" className="btn btn-quiet" onClick={close}>
          {t('app.close')}
        </button>
      </span>
    </div>
  )
}
