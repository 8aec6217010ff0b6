// What was typed and not sent. It lives outside of the DOM, and in localStorage soon after.

import { useSyncExternalStore } from 'react'
import { currentUser, isLeaving, onAuth } from '../api/auth'

const SAVE_MS = 300
const DRAFTS_MAX = 50
const DAYS = 30
const texts = new Map<string, string>()
const listeners = new Set<() => void>()
const unsaved = new Set<string>()
let timer: ReturnType<typeof setTimeout> | null = null

/** Whose texts these are; kept when a session ends by itself, so that nothing typed is lost. */
let owner = currentUser()?.id ?? 'nobody'

const storageKey = (): string => `troupe.drafts.${owner}`

onAuth(() => {
  if (isLeaving()) {
    unsaved.clear()
    texts.clear()
  }
  const id = currentUser()?.id
  if (id === undefined || id === owner) return
  save()
  owner = id
  texts.clear()
  listeners.forEach((listener) => listener())
})

type Stored = Record<string, { text: string; at: number }>

function stored(): Stored {
  try {
    return JSON.parse(localStorage.getItem(storageKey()) ?? '{}') as Stored
  } catch {
    return {}
  }
}

function save(): void {
  if (timer) clearTimeout(timer)
  timer = null
  if (unsaved.size === 0) return
  const all = stored()
  for (const key of unsaved) {
    const text = texts.get(key)
    if (text) all[key] = { text, at: Date.now() }
    else delete all[key]
  }
  unsaved.clear()
  const oldest = Date.now() - DAYS * 86_400_000
  const kept = Object.entries(all)
    .filter(([, d]) => d.at > oldest)
    .sort(([, a], [, b]) => b.at - a.at)
    .slice(0, DRAFTS_MAX)
  try {
    localStorage.setItem(storageKey(), JSON.stringify(Object.fromEntries(kept)))
  } catch {
    // Full storage: the draft still lives in this tab.
  }
}

addEventListener('pagehide', save)

export function draft(key: string): string {
  const known = texts.get(key)
  if (known !== undefined) return known
  const text = stored()[key]?.text ?? ''
  texts.set(key, text)
  return text
}

export function setDraft(key: string, text: string): void {
  texts.set(key, text)
  unsaved.add(key)
  timer ??= setTimeout(save, SAVE_MS)
  listeners.forEach((listener) => listener())
}

/** Takes a draft away for good: its text was taken over. */
export function dropDraft(key: string): void {
  setDraft(key, '')
  save()
}

export function useDraft(key: string): string {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    () => draft(key),
  )
}
