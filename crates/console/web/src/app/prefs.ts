// What a person chose about keys and reading; kept in this browser.

import { useSyncExternalStore } from 'react'

const KEYS = {
  /** Single letters act. */
  letters: ['troupe.keys.letters', true],
  /** The transcript goes on following when a growing text reached the top. */
  follow: ['troupe.follow.always', false],
  /** Enter makes a new line; with Ctrl it sends. */
  ctrlEnter: ['troupe.enter.ctrl', false],
} as const

export type Pref = keyof typeof KEYS
export const PREFS = Object.keys(KEYS) as Pref[]

const listeners = new Set<() => void>()

export function pref(name: Pref): boolean {
  const [key, usual] = KEYS[name]
  const stored = localStorage.getItem(key)
  return stored === null ? usual : stored === '1'
}

export function setPref(name: Pref, on: boolean): void {
  localStorage.setItem(KEYS[name][0], on ? '1' : '0')
  listeners.forEach((listener) => listener())
}

export const usePref = (name: Pref): boolean =>
  useSyncExternalStore(
    (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    () => pref(name),
  )
