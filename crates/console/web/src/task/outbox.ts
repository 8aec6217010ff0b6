// Messages of this person that the node has not acknowledged. They are in sight, survive a
// reload, and a repeated send is harmless because each has its own id.

import { randomId } from '../parts/ids'

export interface Outgoing {
  id: string
  text: string
  state: 'sending' | 'waiting' | 'refused'
  reason?: string
}

export class Outbox {
  entries: readonly Outgoing[] = []

  constructor(
    private readonly key: string,
    private readonly changed: () => void,
  ) {
    try {
      const stored = JSON.parse(localStorage.getItem(key) ?? '[]') as { id: string; text: string }[]
      this.entries = stored.map((e) => ({ id: e.id, text: e.text, state: 'waiting' as const }))
    } catch {
      this.entries = []
    }
  }

  add(text: string): Outgoing {
    const entry: Outgoing = { id: randomId(), text, state: 'waiting' }
    this.set([...this.entries, entry])
    return entry
  }

  mark(id: string, state: Outgoing['state'], reason?: string): void {
    this.set(this.entries.map((e) => (e.id === id ? { ...e, state, reason } : e)))
  }

  done(id: string | undefined): void {
    if (id && this.entries.some((e) => e.id === id)) {
      this.set(this.entries.filter((e) => e.id !== id))
    }
  }

  private set(entries: readonly Outgoing[]): void {
    this.entries = entries
    try {
      if (entries.length === 0) localStorage.removeItem(this.key)
      else localStorage.setItem(this.key, JSON.stringify(entries.map(({ id, text }) => ({ id, text }))))
    } catch {
      // Full storage: the entry still lives in this tab.
    }
    this.changed()
  }
}
