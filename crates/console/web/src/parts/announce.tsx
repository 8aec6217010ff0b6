// The one polite region: boundaries only, one at a time, three seconds apart.

import { useSyncExternalStore } from 'react'

const FLOOR_MS = 3_000
const queue: string[] = []
let said = ''
let free = 0
let timer: ReturnType<typeof setTimeout> | null = null
const listeners = new Set<() => void>()

function next(): void {
  timer = null
  const text = queue.shift()
  if (text === undefined) return
  said = text
  free = Date.now() + FLOOR_MS
  listeners.forEach((listener) => listener())
  plan()
}

function plan(): void {
  if (queue.length > 0) timer ??= setTimeout(next, Math.max(0, free - Date.now()))
}

export function announce(text: string): void {
  if (queue.length > 4) queue.shift()
  queue.push(text)
  plan()
}

export function Announcer() {
  const text = useSyncExternalStore(
    (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    () => said,
  )
  return (
    <div className="sr-only" role="status" aria-live="polite">
      {text}
    </div>
  )
}
