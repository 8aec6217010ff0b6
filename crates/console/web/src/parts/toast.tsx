// Short answers to something a person did, mostly refusals.

import { X } from 'lucide-react'
import { useSyncExternalStore } from 'react'
import i18next from 'i18next'
import { useTranslation } from 'react-i18next'
import { ApiError, OfflineError } from '../api/auth'

interface Toast {
  id: number
  text: string
  bad: boolean
}

let toasts: readonly Toast[] = []
let next = 1
const listeners = new Set<() => void>()
const SHOWN_MS = 6_000

function set(list: readonly Toast[]): void {
  toasts = list
  listeners.forEach((listener) => listener())
}

export function toast(text: string, bad = false): void {
  const made = { id: next++, text, bad }
  set([...toasts, made].slice(-3))
  setTimeout(() => set(toasts.filter((x) => x.id !== made.id)), SHOWN_MS)
}

/** An error in words: ours for known codes, the node's sentence else. */
export function wordsOf(error: unknown): string {
  if (error instanceof ApiError) {
    const key = `problem.${error.problem.code}`
    return i18next.exists(key) && i18next.language !== 'en' ? i18next.t(key) : error.problem.detail
  }
  if (error instanceof OfflineError) return i18next.t('app.offlineTitle')
  return i18next.t('app.failedTitle')
}

export const complain = (error: unknown): void => toast(wordsOf(error), true)

export function Toasts() {
  const { t } = useTranslation()
  const list = useSyncExternalStore(
    (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    () => toasts,
  )
  return (
    <div className="pointer-events-none fixed inset-x-0 top-3 z-50 flex flex-col items-center gap-2 px-4" aria-live="assertive">
      {list.map((item) => (
        <div
          key={item.id}
          className={`pointer-events-auto flex max-w-[560px] items-start gap-3 rounded-panel border bg-surface px-3 py-2 shadow-pop ${item.bad ? 'border-danger' : 'border-line'}`}
        >
          <span>{item.text}</span>
          <button
            type="button"
            aria-label={t('app.dismiss')}
            className="mt-0.5 text-text-3"
            onClick={() => set(toasts.filter((x) => x.id !== item.id))}
          >
            <X size={16} strokeWidth={1.5} />
          </button>
        </div>
      ))}
    </div>
  )
}
