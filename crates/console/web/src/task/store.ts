// Everything known about one open Task, outside of React. Frames change it; components
// subscribe to single messages and blocks, and to the list of keys.

import type {
  Block,
  JoinAnswer,
  OutlineRow,
  QueuedMessage,
  StageInfo,
  TaskView,
  TurnsPage,
  TurnView,
  Viewer,
} from '../api/types'
import { isOpen } from './ask'
import type { Frame } from './frames'
import { itemsOf } from './items'
import type { Item } from './items'
import { Row } from './row'
import { Segmenter } from './segments'

/** With these a model that was waited for has begun to answer. */
const GOES_ON = new Set<string>(['chat:start', 'chat:chunk', 'chat:block_created', 'chat:usage'])

interface Turn {
  id: string
  rows: Row[]
}

export type Topic = 'items' | 'task' | 'link' | (string & {})

export interface StoreReport {
  /** Frames that came for an attempt that was over, without saying so. */
  afterEnd: number
  /** Frames that did not fit the text before them. */
  broken: number
}

export class TaskStore {
  log = ''
  task: TaskView | null = null
  viewers: Viewer[] = []
  outline: OutlineRow[] = []
  items: readonly Item[] = []
  /** Older turns are there. */
  before: string | null = null
  readonly report: StoreReport = { afterEnd: 0, broken: 0 }

  private turns: Turn[] = []
  private rows = new Map<string, Row>()
  private rowItems = new Map<string, Item[]>()
  private segmenters = new Map<string, Segmenter>()
  private revs = new Map<string, number>()
  private listeners = new Map<string, Set<() => void>>()
  private dirty = new Set<string>()
  private dirtyRows = new Set<Row>()

  /** Starts over with what a join brought. */
  load(join: JoinAnswer): void {
    this.log = join.log
    this.task = join.task
    this.viewers = join.viewers
    this.outline = join.outline
    this.turns = []
    this.rows.clear()
    this.rowItems.clear()
    this.segmenters.clear()
    this.growing.clear()
    for (const turn of join.turns) this.turns.push(this.adopt(turn, join.head))
    const first = join.turns[0]?.turn_id
    this.before = first && join.outline[0] && join.outline[0].turn_id !== first ? first : null
    for (const topic of this.listeners.keys()) this.dirty.add(topic)
    this.dirty.add('items')
    this.publish(Infinity)
  }

  /** Puts older turns before the others. */
  prepend(page: TurnsPage): void {
    const known = new Set(this.turns.map((t) => t.id))
    const older = page.turns.filter((t) => !known.has(t.turn_id))
    this.turns.unshift(...older.map((t) => this.adopt(t, page.head)))
    this.before = page.before ?? null
    this.dirty.add('items')
    this.publish(Infinity)
  }

  private adopt(turn: TurnView, head: number): Turn {
    const rows = turn.messages.map((view) => {
      const row = new Row({ ...view, blocks: view.blocks.map((b) => ({ ...b })) }, head)
      this.rows.set(view.subtask_id, row)
      this.dirtyRows.add(row)
      return row
    })
    return { id: turn.turn_id, rows }
  }

  /** Folds the next frame. False: what is here does not allow it; join anew. */
  apply(frame: Frame): boolean {
    switch (frame.event) {
      case 'chat:message': {
        const m = frame.data
        if (this.rows.has(m.subtask_id)) return true
        const row = Row.of(m)
        this.rows.set(m.subtask_id, row)
        const turn = this.turns.findLast((t) => t.id === m.turn_id)
        if (turn) turn.rows.push(row)
        else this.turns.push({ id: m.turn_id, rows: [row] })
        this.dirtyRows.add(row)
        return true
      }
      case 'chat:edited':
        this.remove(new Set(frame.data.removed))
        return true
      case 'task:stage': {
        const stage: StageInfo | undefined =
          frame.data.stages.length > 0 ? frame.data : undefined
        this.patchTask({ stage })
        return true
      }
      case 'task:queue':
        this.patchTask({ queue: frame.data.queue })
        return true
      case 'task:updated': {
        const { title, labels, status } = frame.data
        const changed: Partial<TaskView> = {}
        if (title !== undefined) changed.title = title
        if (labels !== undefined) changed.labels = labels
        if (status !== undefined) {
          changed.status = status
          changed.wait = undefined
        }
        this.patchTask(changed)
        return true
      }
      default:
        return this.applyToRow(frame)
    }
  }

  private applyToRow(frame: Frame): boolean {
    const data = frame.data as { subtask_id?: string; late?: boolean }
    const row = data.subtask_id ? this.rows.get(data.subtask_id) : undefined
    if (frame.event === 'chat:status_updated') this.patchTask({ wait: frame.data.wait })
    else if (this.task?.wait && GOES_ON.has(frame.event) && !data.late) this.patchTask({ wait: undefined })
    if (!row) return true
    const outcome = row.fold(frame)
    if (outcome === 'ignored' && frame.event !== 'chat:block_updated' && !data.late) {
      this.report.afterEnd++
    }
    if (outcome === 'broken') this.report.broken++
    if (outcome === 'broken' || outcome === 'unknown-keeps') return false
    this.touch(row, frame)
    return true
  }

  /** Marks what a frame changed; a piece of a text changes the list only with a new segment. */
  private touch(row: Row, frame: Frame): void {
    if (frame.event === 'chat:chunk' && !frame.data.late) {
      const id = frame.data.block_id
      this.dirty.add(id)
      const block = row.view.blocks.findLast((b) => b.id === id)
      if (block && this.rowItems.get(row.view.subtask_id)?.some((i) => 'block' in i && i.block === block)) {
        if (block.type !== 'text') return
        // Cut in `publish`, once for all pieces of a frame of the screen.
        this.growing.set(block, row)
        return
      }
    }
    if (frame.event === 'chat:block_updated') this.dirty.add(frame.data.block_id)
    // The header says whether a person is awaited.
    if (frame.event === 'chat:block_created' || frame.event === 'chat:block_updated') this.dirty.add('task')
    this.dirtyRows.add(row)
  }

  private growing = new Map<Block, Row>()

  private remove(gone: Set<string>): void {
    for (const id of gone) {
      this.rows.delete(id)
      this.rowItems.delete(id)
    }
    for (const turn of this.turns) {
      turn.rows = turn.rows.filter((row) => !gone.has(row.view.subtask_id))
    }
    this.turns = this.turns.filter((turn) => turn.rows.length > 0)
    this.dirty.add('items')
  }

  private patchTask(changed: Partial<TaskView>): void {
    if (!this.task) return
    this.task = { ...this.task, ...changed }
    this.dirty.add('task')
    if (changed.status !== undefined || 'stage' in changed) this.dirty.add('items')
  }

  setViewers(viewers: Viewer[]): void {
    this.viewers = viewers
    this.dirty.add('task')
  }

  /**
   * Tells subscribers what changed since the last time, with so many new segments per text at
   * most: each is parsed when it is shown. True: there are more.
   */
  publish(most = 1): boolean {
    const growing = [...this.growing]
    this.growing.clear()
    for (const [block, row] of growing) {
      this.dirty.add(block.id)
      const segmenter = this.segmenter(block)
      if (segmenter.update(block.content ?? '', most)) this.dirtyRows.add(row)
      if (segmenter.pending) this.growing.set(block, row)
    }
    let list = this.dirty.has('items')
    for (const row of this.dirtyRows) {
      const id = row.view.subtask_id
      this.dirty.add(id)
      if (!this.rows.has(id)) continue
      const items = itemsOf(row, (block) => this.cut(block, row, most))
      const before = this.rowItems.get(id)
      if (before?.length !== items.length || before.some((item, i) => !same(item, items[i]!))) {
        this.rowItems.set(id, items)
        list = true
      }
      for (const block of row.view.blocks) {
        if (block.status !== this.statuses.get(block.id)) {
          this.statuses.set(block.id, block.status)
          this.dirty.add(block.id)
        }
      }
    }
    this.dirtyRows.clear()
    if (list) {
      this.items = [
        ...this.turns.flatMap((turn) =>
          turn.rows.flatMap((row) => this.rowItems.get(row.view.subtask_id) ?? []),
        ),
        ...this.gate(),
      ]
      this.dirty.add('items')
    }
    const dirty = [...this.dirty]
    this.dirty.clear()
    for (const topic of dirty) this.revs.set(topic, (this.revs.get(topic) ?? 0) + 1)
    for (const topic of dirty) this.listeners.get(topic)?.forEach((listener) => listener())
    return this.growing.size > 0
  }

  /** The one decision that is awaited, behind the answer that it is about. */
  private gate(): Item[] {
    const row = this.turns.at(-1)?.rows.at(-1)
    const stage = this.task?.stage
    const open = this.task?.status === 'PENDING_CONFIRMATION' && stage?.is_pending_confirmation
    if (!open || !row) return []
    const n = stage.current_stage
    return [{ kind: 'gate', key: `${row.view.subtask_id}?${n}`, row, stage: n }]
  }

  private statuses = new Map<string, string>()

  private cut(block: Block, row: Row, most: number): Segmenter {
    const segmenter = this.segmenter(block)
    // What this frame may show of it was cut above.
    if (this.growing.has(block)) return segmenter
    segmenter.update(block.content ?? '', most)
    if (segmenter.pending) this.growing.set(block, row)
    return segmenter
  }

  segmenter(block: Block): Segmenter {
    let segmenter = this.segmenters.get(block.id)
    if (!segmenter) this.segmenters.set(block.id, (segmenter = new Segmenter()))
    return segmenter
  }

  subscribe(topic: Topic, listener: () => void): () => void {
    let set = this.listeners.get(topic)
    if (!set) this.listeners.set(topic, (set = new Set()))
    set.add(listener)
    return () => {
      set.delete(listener)
      if (set.size === 0) this.listeners.delete(topic)
    }
  }

  /** The first thing that waits for a person; null: nothing does. */
  open(): Item | null {
    return this.items.find((i) => i.kind === 'block' && isOpen(i.block)) ?? null
  }

  rev(topic: Topic): number {
    return this.revs.get(topic) ?? 0
  }

  row(id: string): Row | undefined {
    return this.rows.get(id)
  }

  /** All messages, oldest first. */
  messages(): Row[] {
    return this.turns.flatMap((turn) => turn.rows)
  }

  /** Messages of the newest turn, oldest first. */
  lastTurn(): readonly Row[] {
    return this.turns.at(-1)?.rows ?? []
  }

  get queue(): readonly QueuedMessage[] {
    return this.task?.queue ?? []
  }

  /** All turns in short: what the join told about older ones, and what is here. */
  outlineRows(): OutlineRow[] {
    const first = this.turns[0]?.id
    const at = this.outline.findIndex((row) => row.turn_id === first)
    return [...(at > 0 ? this.outline.slice(0, at) : []), ...this.turns.map(inShort)]
  }

  /** The turns as the node would answer them. */
  views(): TurnView[] {
    return this.turns.map((t) => ({ turn_id: t.id, messages: t.rows.map((row) => row.view) }))
  }
}

const EXCERPT = 80

function inShort(turn: Turn): OutlineRow {
  const asked = turn.rows[0]!.view
  const { sender } = asked
  const author = sender.type === 'USER' ? sender.user_name : sender.type === 'MEMBER' ? sender.name : ''
  return {
    turn_id: turn.id,
    first_seq: 0,
    message_id: asked.message_id,
    author,
    excerpt: asked.content.slice(0, 2 * EXCERPT).replace(/\s+/g, ' ').trim().slice(0, EXCERPT),
    status: turn.rows.at(-1)!.view.status,
  }
}

function same(a: Item, b: Item): boolean {
  if (a.key !== b.key || a.kind !== b.kind || a.row !== b.row) return false
  return 'block' in a && 'block' in b ? a.block === b.block : true
}
