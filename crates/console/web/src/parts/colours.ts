// Colours of code: made in a worker that is started with the first code block, kept by source.

/** Pieces of one line with the kind of each; '' has none. */
export type Line = readonly (readonly [text: string, kind: string])[]

export interface Ask {
  id: number
  language: string
  code: string
}

export interface Answer {
  id: number
  /** null: the language is not known. */
  lines: Line[] | null
}

const KEPT_MAX = 500
/** Longer code keeps its one colour. */
const CODE_MAX = 100_000

type Take = (lines: readonly Line[]) => void

let worker: Worker | null = null
let broken = false
let next = 1
const waiting = new Map<number, { key: string; takers: Set<Take> }>()
const asked = new Map<string, number>()
/** In the order of their last use; null: there are no colours for it. */
const kept = new Map<string, readonly Line[] | null>()

const keyOf = (language: string, code: string): string => `${language}\n${code}`

/** Colours that are there already. */
export function coloured(language: string, code: string): readonly Line[] | null {
  const key = keyOf(language, code)
  const lines = kept.get(key)
  if (lines === undefined) return null
  kept.delete(key)
  kept.set(key, lines)
  return lines
}

/** Asks for colours. Call what comes back to lose interest. */
export function colours(language: string, code: string, take: Take): (() => void) | undefined {
  const key = keyOf(language, code)
  if (!language || code === '' || code.length > CODE_MAX || broken || kept.has(key)) return
  const id = asked.get(key) ?? send(key, language, code)
  if (id === null) return
  const { takers } = waiting.get(id)!
  takers.add(take)
  return () => takers.delete(take)
}

function send(key: string, language: string, code: string): number | null {
  const made = start()
  if (!made) return null
  const id = next++
  asked.set(key, id)
  waiting.set(id, { key, takers: new Set() })
  made.postMessage({ id, language, code } satisfies Ask)
  return id
}

function start(): Worker | null {
  if (worker) return worker
  try {
    worker = new Worker(new URL('./colour-worker.ts', import.meta.url), { type: 'module', name: 'colours' })
  } catch {
    broken = true
    return null
  }
  worker.onmessage = ({ data }: MessageEvent<Answer>) => answered(data)
  // Code without colours is still code.
  worker.onerror = () => {
    broken = true
    waiting.clear()
    asked.clear()
  }
  return worker
}

function answered({ id, lines }: Answer): void {
  const one = waiting.get(id)
  if (!one) return
  waiting.delete(id)
  asked.delete(one.key)
  kept.set(one.key, lines)
  if (kept.size > KEPT_MAX) kept.delete(kept.keys().next().value!)
  if (lines) one.takers.forEach((take) => take(lines))
}
