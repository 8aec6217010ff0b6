// The virtual list of a Task: stays at its end while it follows, and in its place otherwise.

import { useVirtualizer } from '@tanstack/react-virtual'
import { ArrowDown } from 'lucide-react'
import { useCallback, useEffect, useImperativeHandle, useLayoutEffect, useMemo, useReducer, useRef, useState } from 'react'
import type { Ref, RefObject } from 'react'
import { useTranslation } from 'react-i18next'
import { isTyping } from '../app/commands'
import { pref } from '../app/prefs'
import { complain } from '../parts/toast'
import { FOLLOW_AT_OPEN, follow } from './follow'
import type { FollowEvent } from './follow'
import { useSession, useTopic } from './hooks'
import { ItemView } from './item-view'
import type { TaskStore } from './store'
import type { Item } from './items'
import { ActionsProvider } from './actions'
import type { Actions } from './actions'
import { Minimap } from './minimap'

const PERSON_MS = 900
/** Frames that a row may take to be drawn before its focus is given up. */
const LANDING_FRAMES = 60

/** First guess of a height, until the row was seen. */
function guess(item: Item, width: number, store: TaskStore): number {
  const perLine = Math.max(20, Math.min(width, 720) / 8)
  switch (item.kind) {
    case 'said':
      return 60 + 24 * Math.ceil(item.row.view.content.length / perLine)
    case 'head':
      return 40
    case 'text': {
      const segmenter = store.segmenter(item.block)
      const length = segmenter.settled[item.segment]?.length ?? segmenter.tail.length
      return 12 + 24 * Math.max(1, Math.ceil(length / perLine))
    }
    default:
      return 36
  }
}

export interface TranscriptHandle {
  follow(): void
  /** To a turn, also one that is not loaded yet. */
  jump(turn: string): Promise<void>
  /** To an entry that is loaded. */
  show(key: string): void
  /** The focus to the next or the previous entry. */
  step(by: 1 | -1): void
  /** Opens or folds the entry that has the focus. */
  toggle(): void
  /** The entry that has the focus. */
  focused(): Item | null
}

/** Entries that the keys stop at. */
const STOPS = new Set<Item['kind']>(['said', 'head', 'block', 'interrupted', 'gate'])

export interface TranscriptProps {
  handle: Ref<TranscriptHandle>
  /** Changes when this person sent something: follow again. */
  sent: number
  actions: Omit<Actions, 'opened'>
}

export function Transcript({ sent, actions, handle }: TranscriptProps) {
  const { t } = useTranslation()
  const session = useSession()
  const { store } = session
  const itemsRev = useTopic(store, 'items')
  const { items } = store
  const scroller = useRef<HTMLDivElement>(null)
  const [state, dispatch] = useReducer(follow, FOLLOW_AT_OPEN)
  const person = useRef(-PERSON_MS)
  const lastTop = useRef(0)
  const stopped = useRef(new Set<string>())
  const [seen, setSeen] = useState(0)

  const virtual = useVirtualizer({
    count: items.length,
    getScrollElement: () => scroller.current,
    estimateSize: (i) => guess(items[i]!, scroller.current?.clientWidth ?? 720, store),
    getItemKey: (i) => items[i]!.key,
    overscan: 8,
    anchorTo: 'end',
    followOnAppend: state.following,
    scrollEndThreshold: state.following ? 1e9 : -1,
    paddingStart: 16,
    paddingEnd: 24,
  })

  const act = useCallback((event: FollowEvent) => dispatch(event), [])

  // Who asks for the end has moved on from whatever scrolling came before, and from the first
  // line of the answer that grows: neither may stop the following again.
  const toEnd = useCallback(
    (type: 'jump' | 'send') => {
      person.current = -PERSON_MS
      const growing = growingText(store.items)
      if (growing) stopped.current.add(growing.block.id)
      act({ type })
    },
    [act, store],
  )

  useEffect(() => {
    if (sent > 0) toEnd('send')
  }, [sent, toEnd])

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
    const first = growingText(items)
    if (!el || !first || stopped.current.has(first.block.id)) return
    const start = virtual.measurementsCache[items.indexOf(first)]?.start
    if (start !== undefined && el.scrollTop > start) {
      stopped.current.add(first.block.id)
      act({ type: 'reached-top', always: pref('follow') })
    }
  })

  const go = useGoing(virtual, scroller, act)
  useImperativeHandle(handle, () => ({ ...go, follow: () => toEnd('jump') }), [go, toEnd])

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
                  tabIndex={-1}
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
      <Minimap jump={(turn) => void go.jump(turn).catch(complain)} seen={new Set(shown(virtual.range, items))} />
      {!state.following && (
        <button
          type="button"
          className="btn absolute bottom-3 left-1/2 -translate-x-1/2 rounded-full border-edge bg-surface shadow-pop"
          onClick={() => toEnd('jump')}
        >
          <ArrowDown size={16} strokeWidth={1.5} aria-hidden />
          {fresh > 0 ? t('task.latestNew', { n: fresh }) : t('task.latest')}
        </button>
      )}
    </div>
  )
}

/** The first segment of the text that grows at the end, if one does. */
function growingText(items: readonly Item[]): Extract<Item, { kind: 'text' }> | undefined {
  const first = items.findLast((i) => i.kind === 'text' && i.segment === 0)
  return first?.kind === 'text' && first.block.status === 'streaming' ? first : undefined
}

/** Turns that are in view. */
function shown(range: { startIndex: number; endIndex: number } | null, items: readonly Item[]): string[] {
  return range ? items.slice(range.startIndex, range.endIndex + 1).map((item) => item.row.view.turn_id) : []
}

type Virtual = ReturnType<typeof useVirtualizer<HTMLDivElement, Element>>

/** Ways through the transcript for keys and the outline. */
function useGoing(virtual: Virtual, scroller: RefObject<HTMLDivElement | null>, act: (event: FollowEvent) => void): Omit<TranscriptHandle, 'follow'> {
  const session = useSession()
  return useMemo(() => {
    const { store } = session
    // On its way to a row, which has the focus only frames later: quick keys count from there.
    let going: number | null = null
    const at = (): number => going ?? Number(document.activeElement?.closest<HTMLElement>('[data-index]')?.dataset.index ?? -1)
    const focus = (index: number, align: 'auto' | 'start'): void => {
      act({ type: 'opened' })
      going = index
      virtual.scrollToIndex(index, { align })
      // The row is there after the next frame, and its height is known after one more.
      requestAnimationFrame(() => requestAnimationFrame(() => land(index, align, LANDING_FRAMES)))
    }
    // A busy machine draws the row frames later, or the end was followed once more in between.
    const land = (index: number, align: 'auto' | 'start', frames: number): void => {
      if (going !== index) return
      const row = scroller.current?.querySelector<HTMLElement>(`[data-index="${index}"]`)
      if (row || frames === 0) {
        going = null
        row?.focus({ preventScroll: true })
        return
      }
      virtual.scrollToIndex(index, { align })
      requestAnimationFrame(() => land(index, align, frames - 1))
    }
    return {
      show(key) {
        const index = store.items.findIndex((i) => i.key === key)
        if (index >= 0) focus(index, 'auto')
      },
      async jump(turn) {
        act({ type: 'opened' })
        while (store.before && !store.items.some((i) => i.row.view.turn_id === turn)) await session.older()
        const index = store.items.findIndex((i) => i.row.view.turn_id === turn)
        // Older turns came in with the last of these: the list has them after its next render.
        if (index >= 0) requestAnimationFrame(() => focus(index, 'start'))
      },
      step(by) {
        const { items } = store
        let index = at()
        if (index < 0) index = by > 0 ? (virtual.range?.startIndex ?? 0) - 1 : (virtual.range?.endIndex ?? items.length - 1) + 1
        do index += by
        while (items[index] && !STOPS.has(items[index]!.kind))
        if (items[index]) focus(index, 'auto')
      },
      toggle() {
        document.activeElement?.closest('[data-index]')?.querySelector<HTMLElement>('button[aria-expanded]')?.click()
      },
      focused: () => store.items[at()] ?? null,
    }
  }, [session, virtual, scroller, act])
}
