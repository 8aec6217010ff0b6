// Parses of Markdown: kept by source, and only so many in one task of the browser. What does not
// fit is shown as plain text and parsed in the tasks that follow.

import type { ReactElement } from 'react'

/** What all parses of one task may take, in ms; the last one may go over it. */
const SHARE_MS = 8
const KEPT_MAX = 300

type Parse = (source: string) => ReactElement

interface Job {
  source: string
  done: () => void
}

export class Parser {
  private spent = 0
  private asked = false
  private readonly jobs: Job[] = []
  /** In the order of their last use. */
  private readonly kept = new Map<string, ReactElement>()

  constructor(
    private readonly parse: Parse,
    /** Calls back in a task of its own. */
    private readonly later: (callback: () => void) => void,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** What the source makes, if it is known or there is time for it in this task. */
  take(source: string): ReactElement | null {
    const known = this.kept.get(source)
    if (known) {
      this.kept.delete(source)
      this.kept.set(source, known)
      return known
    }
    return this.spent < SHARE_MS ? this.make(source) : null
  }

  /** Parses it in a later task; what was asked for last comes first. Call the answer to give up. */
  soon(source: string, done: () => void): () => void {
    const job = { source, done }
    this.jobs.push(job)
    this.ask()
    return () => {
      const at = this.jobs.indexOf(job)
      if (at >= 0) this.jobs.splice(at, 1)
    }
  }

  private make(source: string): ReactElement {
    const began = this.now()
    const made = this.parse(source)
    this.spent += this.now() - began
    this.kept.set(source, made)
    if (this.kept.size > KEPT_MAX) this.kept.delete(this.kept.keys().next().value!)
    this.ask()
    return made
  }

  private ask(): void {
    if (this.asked) return
    this.asked = true
    this.later(() => {
      this.asked = false
      this.spent = 0
      while (this.jobs.length > 0 && this.spent < SHARE_MS) {
        const { source, done } = this.jobs.pop()!
        if (!this.kept.has(source)) this.make(source)
        done()
      }
      if (this.jobs.length > 0) this.ask()
    })
  }
}

/** A task of its own, without the delays of timers. */
export function nextTask(): (callback: () => void) => void {
  const { port1, port2 } = new MessageChannel()
  const waiting: (() => void)[] = []
  port1.onmessage = () => waiting.shift()?.()
  return (callback) => {
    waiting.push(callback)
    port2.postMessage(null)
  }
}
