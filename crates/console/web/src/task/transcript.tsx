// The virtual list of a Task: stays at its end while it follows, and in its place otherwise.

import { useVirtualizer } from '@tanstack/react-virtual'
import { ArrowDown } from 'lucide-react'
import { useCallback, useEffect, useLayoutEffect, useReducer, useRef, useState } from 'react'
import { useTranslation } from 'react-i18next'
import { isTyping } from '../app/keys'
import { complain } from '../parts/toast'
import { FOLLOW_AT_OPEN, follow } from './follow'
import type { FollowEvent } from './follow'
import { useSession, useTopic } from './hooks'
import { ItemView } from './item-view'
import type { Item } from './items'
import { ActionsProvider } from './actions'
import type { Actions } from './actions'

const PERSON_MS = 900
const ALWAYS = 'troupe.follow.always'

/** First guess of a height, until the row was seen. */
function guess(item: Item, width: number): number {
  const perLine = Math.max(20, Math.min(width, 720) / 8)
  switch (item.kind) {
    case 'said':
      return 60 + 24 * Math.ceil(item.row.view.content.length / perLine)
    case 'head':
      return 40
    case 'text':
      return 24 * Math.max(1, Math.ceil((item.block.content?.length ?? 0) / perLine))
    default:
      return 36
  }
}

export interface TranscriptProps {
  /** Changes when this person sent something: follow again. */
  sent: number
  actions: Omit<Actions, 'opened'>
}

export function Transcript({ sent, actions }: TranscriptProps) {
  const { t } = useTranslation()
  const session = useSession()
  const { store } = session
  const itemsRev = useTopic(store, 'items')
  const { items } = store
  const scroller = useRef<HTMLDivElement>(null)
  const [state, dispatch] = useReducer(follow, FOLLOW_AT_OPEN)
  const person = useRef(0)
  const lastTop = useRef(0)
  const stopped = useRef(new Set<string>())
  const [seen, setSeen] = useState(0)

  const virtual = useVirtualizer({
    count: items.length,
    getScrollElement: () => scroller.current,
    estimateSize: (i) => guess(items[i]!, scroller.current?.clientWidth ?? 720),
    getItemKey: (i) => items[i]!.key,
    overscan: 8,
    anchorTo: 'end',
    followOnAppend: state.following,
    scrollEndThreshold: state.following ? 1e9 : -1,
    paddingStart: 16,
    paddingEnd: 24,
  })

  const act = useCallback((event: FollowEvent) => dispatch(event), [])

  useEffect(() => {
    if (sent > 0) act({ type: 'send' })
  }, [sent, act])

  // Keep to the end after whatever changed, without any smooth motion.
  useLayoutEffect(() => {
    const el = scroller.current
    if (state.following && el && items.length > 0) virtual.scrollToEnd()
  }, [state.following, itemsRev, items.length, virtual])

  useLayoutEffect(() => {
    if (state.following) setSeen(items.length)
  }, [state.following, items.length])

  useEffect(() => {
    const el = scroller.current
    if (!el) return
    const away = (): number => el.scrollHeight - el.scrollTop - el.clientHeight
    const byPerson = (): void => void (person.current = performance.now())
    const onWheel = (e: WheelEvent): void => {
      byPerson()
      if (e.deltaY < 0 && el.scrollTop > 0) act({ type: 'scrolled', away: Math.max(2, away()), up: true })
    }
    const onKey = (e: KeyboardEvent): void => {
      if (!isTyping(e.target) && /^(Page|Arrow|Home|End| )/.test(e.key)) byPerson()
    }
    const onScroll = (): void => {
      const up = el.scrollTop < lastTop.current
      lastTop.current = el.scrollTop
      if (performance.now() - person.current > PERSON_MS) return
      person.current = performance.now()
      act({ type: 'scrolled', away: away(), up })
    }
    const onSelect = (): void => {
      const selection = document.getSelection()
      if (selection && !selection.isCollapsed && el.contains(selection.anchorNode)) act({ type: 'selected' })
    }
    el.addEventListener('wheel', onWheel, { passive: true })
    el.addEventListener('touchmove', byPerson, { passive: true })
    el.addEventListener('pointerdown', byPerson)
    el.addEventListener('scroll', onScroll, { passive: true })
    el.addEventListener('keydown', onKey)
    document.addEventListener('selectionchange', onSelect)
    return () => {
      el.removeEventListener('wheel', onWheel)
      el.removeEventListener('touchmove', byPerson)
      el.removeEventListener('pointerdown', byPerson)
      el.removeEventListener('scroll', onScroll)
      el.removeEventListener('keydown', onKey)
      document.removeEventListener('selectionchange', onSelect)
    }
  }, [act])

  // People read: when the first line of a growing text reaches the top, it stays there.
  const virtualItems = virtual.getVirtualItems()
  useEffect(() => {
    if (!state.following) return
    const el = scroller.current
    const first = items.findLast((i) => i.kind === 'text' && i.segment === 0)
    if (!el || first?.kind !== 'text' || first.block.status !== 'streaming') return
    if (stopped.current.has(first.block.id)) return
    const start = virtual.measurementsCache[items.indexOf(first)]?.start
    if (start !== undefined && el.scrollTop > start) {
      const always = localStorage.getItem(ALWAYS) === '1'
      stopped.current.add(first.block.id)
      act({ type: 'reached-top', always })
    }
  })

  useEffect(() => {
    const handler = (e: KeyboardEvent): void => {
      if (isTyping(e.target) || e.ctrlKey || e.metaKey || e.altKey) return
      if (e.key.toLowerCase() === 'f') act({ type: 'jump' })
    }
    addEventListener('keydown', handler)
    return () => removeEventListener('keydown', handler)
  }, [act])

  const all: Actions = { ...actions, opened: () => act({ type: 'opened' }) }
  const fresh = Math.max(0, items.length - seen)
  return (
    <div className="relative min-h-0 flex-1">
      <div ref={scroller} className="h-full overflow-y-auto overscroll-contain [overflow-anchor:none]" tabIndex={0} aria-label={t('task.transcript')} role="region">
        {store.before && (
          <div className="flex justify-center pt-4">
            <button type="button" className="btn" onClick={() => session.older().catch(complain)}>
              {t('task.older')}
            </button>
          </div>
        )}
        <ActionsProvider value={all}>
          <div role="feed" aria-label={t('task.transcript')} className="relative w-full" style={{ height: virtual.getTotalSize() }}>
            {virtualItems.map((v) => {
              const item = items[v.index]
              if (!item) return null
              return (
                <div
                  key={v.key}
                  data-index={v.index}
                  data-key={item.key}
                  ref={virtual.measureElement}
                  role="article"
                  aria-posinset={v.index + 1}
                  aria-setsize={items.length}
                  aria-busy={item.kind === 'text' && item.block.status === 'streaming' ? true : undefined}
                  className="absolute top-0 left-0 w-full px-4 md:px-6"
                  style={{ transform: `translateY(${v.start}px)` }}
                >
                  <div className="mx-auto max-w-[752px]">
                    <ItemView item={item} />
                  </div>
                </div>
              )
            })}
          </div>
        </ActionsProvider>
      </div>
      {!state.following && (
        <button
          type="button"
          className="btn absolute bottom-3 left-1/2 -translate-x-1/2 rounded-full border-edge bg-surface shadow-pop"
          onClick={() => act({ type: 'jump' })}
        >
          <ArrowDown size={16} strokeWidth={1.5} aria-hidden />
          {fresh > 0 ? t('task.latestNew', { n: fresh }) : t('task.latest')}
        </button>
      )}
    </div>
  )
}
