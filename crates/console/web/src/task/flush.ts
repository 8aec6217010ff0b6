// From the queue of handlers to the store: once per frame of the screen, 4 ms at most. In a
// hidden tab no frame comes, so there it is applied at once and shown when somebody looks.

export const SLICE_MS = 4

export interface Screen {
  hidden(): boolean
  now(): number
  /** Calls back before the next paint. */
  frame(callback: () => void): void
}

export const browserScreen: Screen = {
  hidden: () => document.visibilityState === 'hidden',
  now: () => performance.now(),
  frame: (callback) => void requestAnimationFrame(callback),
}

export class Flush<T> {
  private queue: T[] = []
  private at = 0
  private asked = false

  constructor(
    private readonly screen: Screen,
    private readonly take: (item: T) => void,
    /** Shows what was taken. True: there is more to show in the next frame. */
    private readonly publish: () => boolean,
  ) {}

  push(item: T): void {
    this.queue.push(item)
    if (this.screen.hidden()) this.run(Infinity, false)
    else this.ask()
  }

  /** Everything now: the tab was hidden, or a join needs an empty queue. */
  all(): void {
    this.run(Infinity)
  }

  private ask(): void {
    if (this.asked) return
    this.asked = true
    this.screen.frame(() => {
      this.asked = false
      this.run(SLICE_MS)
    })
  }

  private run(ms: number, show = true): void {
    const end = this.screen.now() + ms
    while (this.at < this.queue.length) {
      this.take(this.queue[this.at++]!)
      if ((this.at & 15) === 0 && this.screen.now() > end) break
    }
    if (this.at >= this.queue.length) {
      this.queue = []
      this.at = 0
    } else {
      this.ask()
    }
    if (show && this.publish()) this.ask()
  }
}
