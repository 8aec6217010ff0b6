// The supervision tree as rows: what is open, what is searched for, in which order.

import type { ActorView } from '../api/admin'

export type Order = 'tree' | 'queue' | 'restarts'

export interface Row {
  actor: ActorView
  depth: number
  /** How many are below it; only in a tree. */
  below: number
}

/** Where children stand: those whose supervisor is gone meanwhile stand at the top. */
function children(actors: readonly ActorView[]): Map<string | undefined, ActorView[]> {
  const known = new Set(actors.map((a) => a.id))
  const found = new Map<string | undefined, ActorView[]>()
  for (const actor of actors) {
    const parent = actor.parent !== undefined && known.has(actor.parent) ? actor.parent : undefined
    found.set(parent, [...(found.get(parent) ?? []), actor])
  }
  return found
}

export function rows(actors: readonly ActorView[], o: { order: Order; text: string; open: ReadonlySet<string> }): Row[] {
  const text = o.text.trim().toLowerCase()
  const flat = (list: readonly ActorView[]): Row[] => list.map((actor) => ({ actor, depth: 0, below: 0 }))
  const wanted = (a: ActorView): boolean => text === '' || `${a.name} ${a.entity ?? ''} ${a.last_error ?? ''}`.toLowerCase().includes(text)
  if (o.order !== 'tree') {
    const by = o.order
    return flat(actors.filter(wanted).sort((a, b) => b[by] - a[by]))
  }
  if (text !== '') return flat(actors.filter(wanted))
  const below = children(actors)
  const found: Row[] = []
  const walk = (actor: ActorView, depth: number): void => {
    const own = below.get(actor.id) ?? []
    found.push({ actor, depth, below: own.length })
    if (o.open.has(actor.id)) own.forEach((child) => walk(child, depth + 1))
  }
  below.get(undefined)?.forEach((actor) => walk(actor, 0))
  return found
}
