import { createContext, useCallback, useContext, useEffect, useRef, useState, useSyncExternalStore } from 'react'
import type { TaskSession } from './session'
import type { TaskStore, Topic } from './store'

const SessionContext = createContext<TaskSession | null>(null)
export const SessionProvider = SessionContext.Provider

const TaskContext = createContext('')
/** Around whatever belongs to one Task, also where that Task is not open. */
export const TaskProvider = TaskContext.Provider
export const useTask = (): string => useContext(TaskContext)

export function useSession(): TaskSession {
  const session = useContext(SessionContext)
  if (!session) throw new Error('no Task is open here')
  return session
}

/** Renders anew when this part of the store changes. */
export function useTopic(store: TaskStore, topic: Topic): number {
  return useSyncExternalStore(
    useCallback((listener) => store.subscribe(topic, listener), [store, topic]),
    useCallback(() => store.rev(topic), [store, topic]),
  )
}

export function useSessionState(session: TaskSession): void {
  useSyncExternalStore(session.subscribe, session.getVersion)
}

/** The time, every so often; null: the clock stands still. */
export function useNow(everyMs: number | null): number {
  const [now, setNow] = useState(() => Date.now())
  useEffect(() => {
    if (everyMs === null) return
    setNow(Date.now())
    const timer = setInterval(() => setNow(Date.now()), everyMs)
    return () => clearInterval(timer)
  }, [everyMs])
  return now
}

export const TAIL_MS = 50
export const TAIL_SHARE = 6

/**
 * A text that grows, at most 20 times a second and never sooner than six times what showing it
 * cost the last time.
 */
export function useThrottled(text: string, live: boolean): string {
  const [shown, setShown] = useState(text)
  const last = useRef({ at: 0, cost: 0, begun: 0 })
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null)
  useEffect(() => {
    const mark = last.current
    if (mark.begun) {
      mark.cost = performance.now() - mark.begun
      mark.begun = 0
    }
  }, [shown])
  useEffect(() => {
    if (!live || text === shown) return
    const mark = last.current
    const wait = Math.max(TAIL_MS, mark.cost * TAIL_SHARE) - (performance.now() - mark.at)
    const show = (): void => {
      timer.current = null
      mark.at = mark.begun = performance.now()
      setShown(text)
    }
    timer.current = setTimeout(show, Math.max(0, wait))
    return () => {
      if (timer.current) clearTimeout(timer.current)
    }
  }, [text, live, shown])
  return live ? shown : text
}
