// One message and the frames about it. The same fold as the node's, so that a page that was
// open and a page that was just loaded show the same.

import type { AttemptError, Block, MessageView, Status } from '../api/types'
import { codePoints } from './frames'
import type { BlockUpdatedData, Frame, MessageData, StartData, UsageData } from './frames'

interface Mark {
  attempt: number
  /** The last frame that added to it. */
  last: number
  /** The frame with which it ended; null: not yet. */
  ended: number | null
  /** Code points of the answer after it (text blocks). */
  offset: number
}

export interface RowNote {
  at: string
  phase: string
  code?: string
  args?: Record<string, unknown>
  retryAt?: string
  text?: string
  count: number
}

/** What a frame did to a row. */
export type Outcome = 'ok' | 'ignored' | 'broken' | 'unknown-keeps'

const FINAL = new Set(['done', 'error', 'unknown'])

export class Row {
  readonly view: MessageView
  readonly notes: RowNote[] = []
  /** Code points of the valid text. */
  offset = 0
  private marks: Mark[] = []

  constructor(
    view: MessageView,
    /** Blocks that came folded were last touched at or before this seq; null: none did. */
    private readonly foldedAt: number | null,
  ) {
    this.view = view
    if (foldedAt !== null) this.adopt(foldedAt)
  }

  static of(m: MessageData): Row {
    return new Row(
      {
        subtask_id: m.subtask_id,
        message_id: m.message_id,
        turn_id: m.turn_id,
        role: m.role,
        kind: m.kind,
        sender: m.sender,
        step: m.step,
        status: m.status,
        content: m.content ?? '',
        blocks: [],
        attempts: [],
        client_message_id: m.client_message_id,
        created_at: m.at,
      },
      null,
    )
  }

  private adopt(head: number): void {
    const last = this.view.attempts.at(-1)?.attempt ?? 1
    for (const block of this.view.blocks) {
      if (block.type === 'text') this.offset += codePoints(block.content ?? '')
      this.marks.push({
        attempt: attemptOf(block.id) ?? last,
        last: head,
        ended: FINAL.has(block.status) ? head : null,
        offset: this.offset,
      })
    }
  }

  fold(frame: Frame): Outcome {
    const { data } = frame
    switch (frame.event) {
      case 'chat:start':
        return this.start(frame.data)
      case 'chat:chunk': {
        const f = frame.data
        const kind = f.result ? 'thinking' : 'text'
        const piece = f.result ? f.result.reasoning_chunk : (f.content ?? '')
        if (f.late) return this.latePiece(f.attempt, f.block_id, kind, piece, f.at)
        if (!this.isOpen(f.attempt)) return 'ignored'
        if (kind === 'text' && f.offset !== undefined && f.offset !== this.offset) return 'broken'
        const place = this.grow(f.attempt, f.block_id, kind, piece, f.at, f.seq)
        if (kind === 'text') {
          this.offset += codePoints(piece)
          this.marks[place]!.offset = this.offset
          this.view.content += piece
        }
        return 'ok'
      }
      case 'chat:block_created': {
        const f = frame.data
        if (f.late) {
          const attempt = this.attempt(f.attempt)
          if (!attempt) return 'ignored'
          ;(attempt.interrupted ??= []).push({ ...f.block })
          return 'ok'
        }
        if (!this.isOpen(f.attempt)) return 'ignored'
        this.push(f.attempt, { ...f.block }, f.seq)
        return 'ok'
      }
      case 'chat:block_updated':
        return this.update(frame.data)
      case 'chat:status_updated': {
        const f = frame.data
        const over = this.view.status === 'FAILED' || this.view.status === 'CANCELLED'
        if (f.phase === 'queued' && over) this.view.status = 'PENDING'
        const before = this.notes.at(-1)
        if (before && before.phase === f.phase && before.code === f.wait?.code) {
          before.count++
          before.at = f.at
          before.retryAt = f.retry_at
          before.text = f.text
          before.args = f.wait?.args
        } else {
          this.notes.push({
            at: f.at,
            phase: f.phase,
            code: f.wait?.code,
            args: f.wait?.args,
            retryAt: f.retry_at,
            text: f.text,
            count: 1,
          })
        }
        return 'ok'
      }
      case 'chat:usage':
        this.usage(frame.data)
        return 'ok'
      case 'chat:done': {
        const current = this.isOpen(frame.data.attempt)
        this.end(frame.data.attempt, 'COMPLETED', data.at)
        return current && frame.data.offset !== this.offset ? 'broken' : 'ok'
      }
      case 'chat:error': {
        const f = frame.data
        const error: AttemptError = { type: f.type, error: f.error, continues: !!f.continues }
        this.end(f.attempt, 'FAILED', f.at, error)
        return 'ok'
      }
      case 'chat:cancelled':
        this.end(frame.data.attempt, 'CANCELLED', data.at)
        return 'ok'
      default:
        return 'ignored'
    }
  }

  /** Whether output of this attempt belongs into the answer. */
  private isOpen(attempt: number): boolean {
    const last = this.view.attempts.at(-1)
    return last?.attempt === attempt && last.status === 'RUNNING'
  }

  private attempt(n: number) {
    return this.view.attempts.findLast((a) => a.attempt === n)
  }

  private start(f: StartData): Outcome {
    if (!this.interrupt(f.keeps, f.offset)) return 'unknown-keeps'
    this.notes.length = 0
    this.view.status = 'RUNNING'
    this.view.attempts.push({
      attempt: f.attempt,
      status: 'RUNNING',
      where: f.where,
      bot_name: f.bot_name,
      shell_type: f.shell_type,
      model: f.model,
      started_at: f.at,
    })
    return this.offset === f.offset ? 'ok' : 'broken'
  }

  /** Blocks that the next attempt does not keep go under the attempt that made them. */
  private interrupt(keeps: number, offset: number): boolean {
    const folded = this.foldedAt
    const unsure = folded !== null && keeps > 0 && keeps < folded
    if (unsure && this.marks.some((m) => m.last === folded || m.ended === folded)) return false
    const { blocks } = this.view
    const marks = this.marks
    this.view.blocks = []
    this.marks = []
    this.view.content = ''
    this.offset = 0
    blocks.forEach((block, i) => {
      const mark = marks[i]!
      settle(block)
      const kept =
        block.type === 'text'
          ? mark.last <= keeps && mark.offset <= offset
          : block.type === 'thinking'
            ? mark.last <= keeps
            : mark.ended !== null && mark.ended <= keeps
      if (kept) {
        if (block.type === 'text') {
          this.view.content += block.content ?? ''
          this.offset += codePoints(block.content ?? '')
        }
        this.view.blocks.push(block)
        this.marks.push(mark)
      } else {
        const attempt = this.attempt(mark.attempt)
        if (attempt) (attempt.interrupted ??= []).push(block)
      }
    })
    return true
  }

  private grow(
    attempt: number,
    id: string,
    type: string,
    piece: string,
    at: string,
    seq: number,
  ): number {
    let place = this.view.blocks.findLastIndex((b) => b.id === id)
    if (place < 0) place = this.push(attempt, streaming(id, type, at), seq)
    const block = this.view.blocks[place]!
    block.content = (block.content ?? '') + piece
    this.marks[place]!.last = seq
    return place
  }

  /** A new block; text before it is over. */
  private push(attempt: number, block: Block, seq: number): number {
    for (const earlier of this.view.blocks) {
      if (earlier.status === 'streaming') earlier.status = 'done'
    }
    this.view.blocks.push(block)
    this.marks.push({ attempt, last: seq, ended: FINAL.has(block.status) ? seq : null, offset: 0 })
    return this.view.blocks.length - 1
  }

  private update(f: BlockUpdatedData): Outcome {
    const place = this.view.blocks.findLastIndex((b) => b.id === f.block_id)
    if (place >= 0) {
      const block = this.view.blocks[place]!
      if (block.type === 'text') return 'ignored'
      patch(block, f)
      const mark = this.marks[place]!
      mark.last = f.seq
      mark.ended = FINAL.has(block.status) ? (mark.ended ?? f.seq) : null
      return 'ok'
    }
    const old = this.attempt(f.attempt)?.interrupted?.findLast((b) => b.id === f.block_id)
    if (!old) return 'ignored'
    patch(old, f)
    return 'ok'
  }

  private latePiece(n: number, id: string, type: string, piece: string, at: string): Outcome {
    const attempt = this.attempt(n)
    if (!attempt) return 'ignored'
    const blocks = (attempt.interrupted ??= [])
    let block = blocks.findLast((b) => b.id === id)
    if (!block) blocks.push((block = { ...streaming(id, type, at), status: 'done' }))
    if (block.type === 'text' || block.type === 'thinking') {
      block.content = (block.content ?? '') + piece
    }
    return 'ok'
  }

  private usage(f: UsageData): void {
    const before = this.view.usage
    const cost = !before
      ? f.cost
      : before.cost !== undefined && f.cost !== undefined
        ? before.cost + f.cost
        : undefined
    this.view.usage = {
      model: f.model,
      input_tokens: (before?.input_tokens ?? 0) + f.input_tokens,
      output_tokens: (before?.output_tokens ?? 0) + f.output_tokens,
      cached_tokens: (before?.cached_tokens ?? 0) + f.cached_tokens,
      calls: (before?.calls ?? 0) + 1,
      cost,
    }
  }

  private end(n: number, status: Status, at: string, error?: AttemptError): void {
    const attempt = this.attempt(n)
    if (attempt) {
      attempt.status = status
      attempt.error = error
      attempt.ended_at = at
    }
    if (error?.continues) {
      this.view.status = 'RUNNING'
    } else {
      this.view.status = status
      this.view.blocks.forEach(settle)
    }
  }
}

function streaming(id: string, type: string, at: string): Block {
  return { id, type, content: '', status: 'streaming', timestamp: Date.parse(at) }
}

function patch(block: Block, f: BlockUpdatedData): void {
  if (f.status !== undefined) block.status = f.status
  if (block.type === 'text' || block.type === 'thinking') {
    if (f.content !== undefined) block.content = f.content
  } else if (block.type !== 'confirmation') {
    // Of kinds that this page does not know, too: so does the node.
    if (block.type !== 'tool' && f.content !== undefined) block.content = f.content
    if (f.tool_input !== undefined) block.tool_input = f.tool_input
    if (f.tool_output !== undefined) block.tool_output = f.tool_output
  }
}

/** Nothing goes on in a block whose attempt is over. */
function settle(block: Block): void {
  if (FINAL.has(block.status)) return
  block.status = block.type === 'text' || block.type === 'thinking' ? 'done' : 'unknown'
}

function attemptOf(id: string): number | null {
  const n = Number(id.split('.')[1])
  return Number.isInteger(n) && n > 0 ? n : null
}
