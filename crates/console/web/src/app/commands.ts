// What can be done on the page that is open: one list for keys, palette and help.

import { useEffect, useId } from 'react'

export interface Command {
  id: string
  /** In the reader's language. */
  label: string
  group: 'go' | 'page'
  /** `c`, `g t`, `mod+.`: lower case, a space between the keys of a sequence. */
  keys?: string
  /** The same in the terminal. */
  cli?: string
  /** The palette lists it only when it is searched for. */
  quiet?: boolean
  run: () => void
}

const sets = new Map<string, readonly Command[]>()

/** Offers commands while the component is there; the ones of inner parts come first. */
export function useCommands(commands: readonly Command[]): void {
  const id = useId()
  useEffect(() => {
    sets.set(id, commands)
  })
  useEffect(() => () => void sets.delete(id), [id])
}

export const allCommands = (): Command[] => [...sets.values()].flat()

export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false
  return target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)
}

export interface Press {
  key: string
  ctrlKey: boolean
  metaKey: boolean
  altKey: boolean
  isComposing: boolean
}

export const SEQUENCE_MS = 1_200

/** One press as it is written in `Command.keys`. */
export function written(e: Press): string | null {
  if (e.isComposing || e.altKey || e.key.length !== 1) return null
  const key = e.key.toLowerCase()
  return e.ctrlKey || e.metaKey ? `mod+${key}` : key
}

export type Match = { run: Command } | { begins: string } | null

/** What a press means after the one before it (`null`: none, or too long ago). */
export function match(commands: readonly Command[], press: string, before: string | null, letters: boolean): Match {
  const plain = !press.startsWith('mod+')
  if (plain && !letters) return null
  const sequence = before === null ? null : commands.find((c) => c.keys === `${before} ${press}`)
  if (sequence) return { run: sequence }
  const single = commands.find((c) => c.keys === press)
  if (single) return { run: single }
  return plain && commands.some((c) => c.keys?.startsWith(`${press} `)) ? { begins: press } : null
}
