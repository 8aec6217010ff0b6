// One open Task: joins its room, resumes by seq after a cut, joins anew when it must.

import { ApiError } from '../api/auth'
import { api } from '../api/http'
import { link, linkState, request } from '../api/socket'
import type { JoinAnswer, SendAck, Viewer } from '../api/types'
import { Flush, browserScreen } from './flush'
import { FRAME_EVENTS } from './frames'
import type { Frame } from './frames'
import { Intake } from './intake'
import { Outbox } from './outbox'
import { TaskStore } from './store'

export type Phase = 'joining' | 'live' | 'gone' | 'failed'

export interface LinkNote {
  kind: 'resumed' | 'reloaded'
  seq: number
  more: number
  at: number
}

const TICK_MS = 100
const JOIN_AGAIN_MS = 1_500

export class TaskSession {
  readonly store = new TaskStore()
  readonly outbox: Outbox
  phase: Phase = 'joining'
  error: Error | null = null
  note: LinkNote | null = null

  private readonly intake: Intake
  private readonly flush: Flush<Frame>
  private readonly undo: (() => void)[] = []
  private ticker: ReturnType<typeof setInterval> | null = null
  private joinTimer: ReturnType<typeof setTimeout> | null = null
  private generation = 0
  private joins = 0
  private closed = false

  constructor(
    readonly id: string,
    userId: string,
  ) {
    this.outbox = new Outbox(`troupe.outbox.${userId}.${id}`, () => this.tell())
    this.intake = new Intake({
      apply: (frame) => this.store.apply(frame),
      resume: (after) => void this.resume(after),
      rejoin: () => void this.join(),
    })
    this.flush = new Flush<Frame>(
      browserScreen,
      (frame) => {
        this.intake.push(frame, performance.now())
        this.watch()
      },
      () => this.store.publish(),
    )
    this.listen()
    if (linkState().up) void this.join()
  }

  private listen(): void {
    const socket = link()
    const on = <T>(event: string, handler: (data: T) => void): void => {
      socket.on(event, handler as () => void)
      this.undo.push(() => socket.off(event, handler as () => void))
    }
    for (const event of FRAME_EVENTS) {
      on(event, (data: Frame['data']) => {
        if (data.task_id !== this.id) return
        if (event === 'chat:message') {
          this.outbox.done((data as { client_message_id?: string }).client_message_id)
        }
        this.flush.push({ event, data } as Frame)
      })
    }
    on('task:resync', (data: { task_id: string }) => {
      if (data.task_id === this.id) void this.join()
    })
    on('task:presence', (data: { task_id: string; viewers?: Viewer[] }) => {
      if (data.task_id !== this.id || !data.viewers) return
      this.store.setViewers(data.viewers)
      this.flush.all()
    })
    on('task:deleted', (data: { task_id: string }) => {
      if (data.task_id === this.id) this.set('gone')
    })
    on('connect', () => void this.connected())
    on('disconnect', () => {
      this.flush.all()
      this.generation++
      this.intake.cut()
    })
    // Both ways: what waits for a frame that does not come, and what was not shown meanwhile.
    const shown = (): void => this.flush.all()
    document.addEventListener('visibilitychange', shown)
    this.undo.push(() => document.removeEventListener('visibilitychange', shown))
  }

  close(): void {
    this.closed = true
    this.generation++
    this.undo.forEach((undo) => undo())
    if (this.ticker) clearInterval(this.ticker)
    if (this.joinTimer) clearTimeout(this.joinTimer)
    if (linkState().up) link().emit('task:leave', { task_id: this.id }, () => undefined)
  }

  /** Calls `tick` only while something is awaited. */
  private watch(): void {
    if (this.intake.waiting && !this.ticker) {
      this.ticker = setInterval(() => {
        this.intake.tick(performance.now())
        if (!this.intake.waiting && this.ticker) {
          clearInterval(this.ticker)
          this.ticker = null
        }
      }, TICK_MS)
    }
  }

  private async connected(): Promise<void> {
    if (this.store.log === '') return this.join()
    const generation = this.generation
    const from = this.intake.head
    try {
      const [ack, task] = await Promise.all([
        request<{ head?: number; rejoin?: boolean }>('chat:resume', { task_id: this.id, after: from }),
        api.task(this.id),
      ])
      if (generation !== this.generation) return
      if (ack.rejoin || task.log !== this.store.log) return await this.join()
      this.noteLink({ kind: 'resumed', seq: from, more: Math.max(0, (ack.head ?? from) - from) })
      this.sendWaiting()
    } catch {
      if (generation === this.generation) await this.join()
    }
  }

  private async resume(after: number): Promise<void> {
    try {
      const ack = await request<{ rejoin?: boolean }>('chat:resume', { task_id: this.id, after }, 2_000)
      if (ack.rejoin) await this.join()
    } catch (error) {
      if (error instanceof ApiError) await this.join()
      // Without an answer the intake asks for a new join by itself.
    }
  }

  async join(): Promise<void> {
    if (this.closed) return
    const generation = ++this.generation
    this.joins++
    this.intake.join()
    try {
      const join = await request<JoinAnswer>('task:join', { task_id: this.id, turns: 20 })
      if (generation !== this.generation) return
      this.flush.all()
      const log = this.store.log
      this.store.load(join)
      this.intake.joined(join.head, performance.now())
      this.store.publish(Infinity)
      for (const row of this.store.messages()) this.outbox.done(row.view.client_message_id)
      for (const queued of join.task.queue) this.outbox.done(queued.client_message_id)
      if (log !== '' && log !== join.log) {
        this.noteLink({ kind: 'reloaded', seq: join.head, more: 0 })
      }
      this.set('live')
      this.sendWaiting()
      this.watch()
    } catch (error) {
      if (generation !== this.generation || this.closed) return
      const gone = error instanceof ApiError && [404, 422, 400].includes(error.problem.status)
      if (gone) return this.set('gone')
      this.error = error as Error
      if (this.store.log === '' && error instanceof ApiError) this.set('failed')
      if (linkState().up) {
        this.joinTimer = setTimeout(() => void this.join(), JOIN_AGAIN_MS)
      }
    }
  }

  private set(phase: Phase): void {
    this.phase = phase
    this.tell()
  }

  private noteLink(note: Omit<LinkNote, 'at'>): void {
    const made = { ...note, at: Date.now() }
    this.note = made
    this.tell()
    setTimeout(() => {
      if (this.note === made) {
        this.note = null
        this.tell()
      }
    }, 4_000)
  }

  private version = 0
  private listeners = new Set<() => void>()
  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }
  getVersion = (): number => this.version

  private tell(): void {
    this.version++
    this.listeners.forEach((listener) => listener())
  }

  send(text: string): void {
    const entry = this.outbox.add(text)
    if (linkState().up) void this.deliver(entry.id, text)
  }

  drop(id: string): void {
    this.outbox.done(id)
  }

  private sendWaiting(): void {
    for (const entry of this.outbox.entries) {
      if (entry.state === 'waiting') void this.deliver(entry.id, entry.text)
    }
  }

  private async deliver(id: string, text: string): Promise<void> {
    this.outbox.mark(id, 'sending')
    try {
      await request<SendAck>('chat:send', { task_id: this.id, message: text, client_message_id: id })
      this.outbox.done(id)
    } catch (error) {
      if (error instanceof ApiError) this.outbox.mark(id, 'refused', error.problem.detail)
      else this.outbox.mark(id, 'waiting')
    }
  }

  stop = (): Promise<unknown> => request('chat:cancel', { task_id: this.id })

  retry = (subtask: string): Promise<unknown> =>
    request('chat:retry', { task_id: this.id, subtask_id: subtask })

  edit = (subtask: string, message: string, key: string): Promise<unknown> =>
    request('chat:edit', { task_id: this.id, subtask_id: subtask, message, client_message_id: key })

  confirm = (message: string | undefined, key: string): Promise<unknown> =>
    request('chat:send', {
      task_id: this.id,
      action: 'pipeline:confirm',
      ...(message === undefined ? {} : { message }),
      client_message_id: key,
    })

  queue = (op: Record<string, unknown>): Promise<unknown> =>
    request('queue:edit', { ...op, task_id: this.id })

  async older(): Promise<void> {
    if (!this.store.before) return
    const before = this.store.before
    const page = await api.turns(this.id, before)
    if (this.store.before === before && page.log === this.store.log) this.store.prepend(page)
  }

  /** For tests and support: what was dropped, missed, asked for. */
  get counts() {
    return { ...this.intake.counts, ...this.store.report, joins: this.joins, head: this.intake.head }
  }
}
