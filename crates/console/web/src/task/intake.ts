// Puts frames in order: doubles are dropped, later ones held until the gap before them closes.

import type { Frame } from './frames'

export const GAP_MS = 150
export const RESUME_MS = 2_000
export const HELD_MAX = 2_000
export const HELD_BYTES_MAX = 4 * 1024 * 1024

export interface IntakeCounts {
  applied: number
  dropped: number
  gaps: number
  resumes: number
  rejoins: number
}

export interface IntakePort {
  /** The next frame, in order. False: it does not fit what is there; join anew. */
  apply(frame: Frame): boolean
  resume(after: number): void
  rejoin(): void
}

/** Order of one Task's frames. Time comes from the caller. */
export class Intake {
  head = 0
  readonly counts: IntakeCounts = { applied: 0, dropped: 0, gaps: 0, resumes: 0, rejoins: 0 }
  private held = new Map<number, Frame>()
  private heldBytes = 0
  /** Frames are held without a limit in time while a join is under way. */
  private joining = true
  private gapSince: number | null = null
  private askedAt: number | null = null

  constructor(private readonly port: IntakePort) {}

  /** Everything up to `head` is there; what is held above follows. */
  joined(head: number, now: number): void {
    this.head = head
    this.joining = false
    this.gapSince = null
    this.askedAt = null
    for (const [seq, frame] of this.held) if (seq <= head) this.drop(seq, frame)
    this.drain(now)
  }

  /** A join is under way: frames wait for it. */
  join(): void {
    this.joining = true
    this.gapSince = null
    this.askedAt = null
  }

  /** The link is gone: held frames come again with the next resume. */
  cut(): void {
    this.held.clear()
    this.heldBytes = 0
    this.gapSince = null
    this.askedAt = null
  }

  push(frame: Frame, now: number): void {
    const { seq } = frame.data
    if ((!this.joining && seq <= this.head) || this.held.has(seq)) {
      this.counts.dropped++
      return
    }
    if (!this.joining && seq === this.head + 1) {
      if (this.take(frame)) this.drain(now)
      return
    }
    this.held.set(seq, frame)
    this.heldBytes += weight(frame)
    const full = this.held.size > HELD_MAX || this.heldBytes > HELD_BYTES_MAX
    if (this.joining) {
      // The join's answer brings these again.
      if (full) this.cut()
    } else {
      this.note(now)
      if (full) {
        this.cut()
        this.gapSince = now
        this.ask(now)
      }
    }
  }

  /** To be called now and then while `waiting`. */
  tick(now: number): void {
    if (this.joining) return
    if (this.askedAt !== null) {
      if (now - this.askedAt >= RESUME_MS) this.giveUp()
    } else if (this.gapSince !== null && now - this.gapSince >= GAP_MS) {
      this.ask(now)
    }
  }

  get waiting(): boolean {
    return !this.joining && (this.gapSince !== null || this.askedAt !== null)
  }

  private take(frame: Frame): boolean {
    if (!this.port.apply(frame)) {
      this.giveUp()
      return false
    }
    this.head = frame.data.seq
    this.counts.applied++
    return true
  }

  private drain(now: number): void {
    let moved = false
    for (;;) {
      const frame = this.held.get(this.head + 1)
      if (!frame) break
      this.held.delete(this.head + 1)
      this.heldBytes -= weight(frame)
      if (!this.take(frame)) return
      moved = true
    }
    if (this.held.size === 0) {
      this.gapSince = null
      this.askedAt = null
    } else if (moved || this.gapSince === null) {
      this.gapSince = null
      this.askedAt = null
      this.note(now)
    }
  }

  private note(now: number): void {
    if (this.gapSince !== null) return
    this.gapSince = now
    this.counts.gaps++
  }

  private ask(now: number): void {
    this.askedAt = now
    this.counts.resumes++
    this.port.resume(this.head)
  }

  private giveUp(): void {
    this.counts.rejoins++
    this.cut()
    this.joining = true
    this.port.rejoin()
  }

  private drop(seq: number, frame: Frame): void {
    this.held.delete(seq)
    this.heldBytes -= weight(frame)
    this.counts.dropped++
  }
}

function weight(frame: Frame): number {
  const { data } = frame as { data: { content?: string } }
  return 200 + 2 * (data.content?.length ?? 0)
}
