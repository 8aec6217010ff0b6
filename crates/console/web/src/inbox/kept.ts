// What the inbox shows: what waits, and what was settled while a person looked.

import type { OpenAsk } from '../api/types'

/** Settled ones that stay; older ones go first. */
export const SETTLED_MAX = 50

export const keyOf = (ask: OpenAsk): string => `${ask.task_id}.${ask.block.id}`

const isOpen = (ask: OpenAsk): boolean => ask.block.status === 'pending'

/** How it ended: said from here, its time over, or nobody here knows. */
function settled(ask: OpenAsk, said: string | undefined, now: number): OpenAsk {
  const until = typeof ask.block.expires_at === 'string' ? Date.parse(ask.block.expires_at) : Infinity
  const word = said ?? (until <= now ? 'expired' : null)
  return { ...ask, block: { ...ask.block, status: 'done', tool_output: word } }
}

/**
 * What is shown now, after `shown` was: nothing moves under a person's hand, so what waits no
 * more stays where it is and says how it ended, and what is new comes behind.
 */
export function keep(shown: readonly OpenAsk[], asks: readonly OpenAsk[], said: (ask: OpenAsk) => string | undefined, now: number): readonly OpenAsk[] {
  const fresh = new Map(asks.map((ask) => [keyOf(ask), ask]))
  const known = new Set(shown.map(keyOf))
  let changed = false
  const old = shown.map((ask) => {
    if (!isOpen(ask) || fresh.has(keyOf(ask))) return ask
    changed = true
    return settled(ask, said(ask), now)
  })
  const more = asks.filter((ask) => !known.has(keyOf(ask)))
  if (!changed && more.length === 0) return shown
  let spare = old.filter((ask) => !isOpen(ask)).length - SETTLED_MAX
  const left = spare > 0 ? old.filter((ask) => isOpen(ask) || spare-- <= 0) : old
  return [...left, ...more]
}
