// A scripted node for tests: makes the frames of a Task and folds them the plain way.

import type { Frame } from '../src/task/frames'
import { codePoints } from '../src/task/frames'

/** A small seeded generator (mulberry32). */
export function rng(seed: number): () => number {
  let a = seed >>> 0
  return () => {
    a = (a + 0x6d2b79f5) >>> 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

const PIECES = ['Hello ', '你好，', '👩‍👩‍👧‍👦', '🇨🇳 ', '**bold** ', '\n\n', '```rs\nfn a() {}\n', '| a | b |\n', '- item\n', 'é́ ', '𝒳']

/** Frames of turns with retries, lost attempts, tools, late output and edits. */
export class World {
  readonly frames: Frame[] = []
  /** Answer texts by row, at the end. */
  readonly answers = new Map<string, string>()
  readonly interrupted = new Map<string, string[]>()
  private seq = 0
  private ordinal = 0

  constructor(private readonly random: () => number) {}

  private add(event: string, data: Record<string, unknown>): number {
    const seq = ++this.seq
    const at = new Date(1_700_000_000_000 + seq * 10).toISOString()
    this.frames.push({ event, data: { task_id: 't', seq, at, ...data } } as unknown as Frame)
    return seq
  }

  private below(n: number): number {
    return Math.floor(this.random() * n)
  }

  private message(turn: string, kind: string, content: string): string {
    const n = ++this.ordinal
    const user = kind === 'user'
    this.add('chat:message', {
      subtask_id: `m${n}`,
      message_id: n,
      turn_id: turn,
      role: user ? 'USER' : 'ASSISTANT',
      kind,
      sender: user
        ? { type: 'USER', user_id: 'u', user_name: 'ann' }
        : { type: 'MEMBER', member: 0, name: 'bot' },
      content,
      status: user ? 'COMPLETED' : 'PENDING',
    })
    return `m${n}`
  }

  turn(): void {
    const turn = `trn${this.ordinal}`
    const asked = this.message(turn, 'user', `ask ${this.ordinal} 问`)
    const rows = [this.message(turn, 'answer', '')]
    if (this.below(3) === 0) rows.push(this.message(turn, 'answer', ''))
    const lives = rows.map((row) => this.life(row))
    while (lives.length > 0) {
      const i = this.below(lives.length)
      if (lives[i]!.next().done) lives.splice(i, 1)
    }
    if (this.below(6) === 0) {
      this.add('chat:edited', { message_id: 1, removed: [asked, ...rows] })
      for (const row of rows) this.answers.delete(row)
    }
  }

  private *life(row: string): Generator<void> {
    const ordinal = Number(row.slice(1))
    let kept: { text: string; at: number } = { text: '', at: 0 }
    let offset = 0
    for (let attempt = 1; ; attempt++) {
      const goesOn = attempt > 1 && kept.at > 0 && this.below(2) === 0
      if (!goesOn) kept = { text: '', at: 0 }
      let text = kept.text
      offset = codePoints(text)
      this.add('chat:start', {
        subtask_id: row,
        message_id: ordinal,
        attempt,
        keeps: kept.at,
        offset,
        bot_name: 'bot',
        shell_type: 'Chat',
        where: { kind: 'cluster' },
      })
      yield
      let block = 0
      for (let step = 0; step < 1 + this.below(3); step++) {
        if (this.below(2) === 0) {
          const id = `${ordinal}.${attempt}.${++block}`
          for (let i = 0; i < 1 + this.below(3); i++) {
            const result = { reasoning_chunk: this.piece() }
            this.add('chat:chunk', { subtask_id: row, attempt, block_id: id, result })
            yield
          }
        }
        const id = `${ordinal}.${attempt}.${++block}`
        for (let i = 0; i < 1 + this.below(8); i++) {
          const content = this.piece()
          this.add('chat:chunk', { subtask_id: row, attempt, block_id: id, content, offset })
          offset += codePoints(content)
          text += content
          yield
        }
        let last = this.seq
        if (this.below(2) === 0) last = yield* this.tool(row, attempt, `${ordinal}.${attempt}.${++block}`)
        kept = { text, at: last }
      }
      const fate = this.below(attempt > 4 ? 1 : 4)
      const base = { subtask_id: row, message_id: ordinal, attempt }
      this.answers.set(row, text)
      if (fate <= 1) {
        this.add('chat:usage', { subtask_id: row, model: 'm', input_tokens: 3, output_tokens: 2, cached_tokens: 0 })
        this.add('chat:done', { ...base, offset, sha256: '' })
        return
      }
      const continues = fate === 2
      this.add('chat:error', { ...base, error: 'gone', type: 'lost', continues })
      yield
      if (!continues) kept = { text: '', at: 0 }
      if (this.below(2) === 0) {
        const late = { subtask_id: row, attempt, block_id: `${ordinal}.${attempt}.99`, late: true }
        this.add('chat:chunk', { ...late, content: 'late ', offset })
      }
      yield
    }
  }

  private *tool(row: string, attempt: number, id: string): Generator<void, number> {
    const block = { id, type: 'tool', status: 'running', timestamp: 0, tool_use_id: id, tool_name: 'add', tool_input: {} }
    this.add('chat:block_created', { subtask_id: row, attempt, block })
    yield
    const patch = { status: 'done', tool_output: this.piece() }
    return this.add('chat:block_updated', { subtask_id: row, attempt, block_id: id, ...patch })
  }

  private piece(): string {
    let text = ''
    for (let i = 0; i <= this.below(3); i++) text += PIECES[this.below(PIECES.length)]!
    return text
  }
}
