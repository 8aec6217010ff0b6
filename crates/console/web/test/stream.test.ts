import { describe, expect, it } from 'vitest'
import type { JoinAnswer, TurnView } from '../src/api/types'
import type { Frame } from '../src/task/frames'
import { Intake } from '../src/task/intake'
import { TaskStore } from '../src/task/store'
import { rng, World } from './world'

const SEEDS = Number(process.env.SEEDS ?? 500)

function joinOf(turns: TurnView[], head: number): JoinAnswer {
  const task = { title: '', queue: [], status: 'RUNNING' } as unknown as JoinAnswer['task']
  return { log: 'l', head, task, turns, outline: [], viewers: [] }
}

/** What a page that reads everything in order shows. */
function plain(frames: Frame[]): TaskStore {
  const store = new TaskStore()
  store.load(joinOf([], 0))
  for (const frame of frames) expect(store.apply(frame)).toBe(true)
  store.publish(Infinity)
  return store
}

const base = (seq: number) => ({ task_id: 't', seq, at: '2026-01-01T00:00:00Z' })

const copy = <T,>(value: T): T => JSON.parse(JSON.stringify(value)) as T
const shown = (store: TaskStore): unknown => copy(store.views())

/** A node that keeps a log, and a wire that loses, doubles and reorders. */
class Wire {
  readonly store = new TaskStore()
  readonly intake: Intake
  now = 0
  injected = { doubles: 0, cuts: 0 }
  private due: { at: number; frame: Frame }[] = []
  private sent = 0
  private joinAt: number | null = null
  private resumeAt: { at: number; after: number } | null = null

  constructor(
    private readonly frames: Frame[],
    private readonly random: () => number,
    private readonly harsh: boolean,
  ) {
    this.intake = new Intake({
      apply: (frame) => this.store.apply(frame),
      resume: (after) => (this.resumeAt = { at: this.now + 5, after }),
      rejoin: () => this.join(),
    })
    this.join()
  }

  private join(): void {
    this.intake.join()
    this.joinAt = this.now + 5
  }

  private post(frame: Frame, delay: number): void {
    this.due.push({ at: this.now + delay, frame: copy(frame) })
  }

  /** The node commits one more frame and tells the room. */
  private tell(): void {
    const frame = this.frames[this.sent++]!
    if (!this.harsh) return this.post(frame, 1)
    const luck = this.random()
    if (luck < 0.05) return
    const delay = luck < 0.3 ? 1 + Math.floor(this.random() * 64) : 1
    this.post(frame, delay)
    if (luck > 0.9) {
      this.injected.doubles++
      this.post(frame, delay + 3)
    }
  }

  private step(): void {
    this.now += 1
    if (this.harsh && this.random() < 0.002) {
      // The link is cut: what was under way is gone, the client resumes.
      this.injected.cuts++
      this.due = []
      this.intake.cut()
      this.resumeAt = { at: this.now + 20, after: this.intake.head }
    }
    if (this.joinAt !== null && this.now >= this.joinAt) {
      this.joinAt = null
      this.store.load(joinOf(copy(plain(this.frames.slice(0, this.sent)).views()), this.sent))
      this.intake.joined(this.sent, this.now)
    }
    if (this.resumeAt && this.now >= this.resumeAt.at) {
      const { after } = this.resumeAt
      this.resumeAt = null
      this.frames.slice(after, this.sent).forEach((frame) => this.post(frame, 1))
    }
    const ready = this.due.filter((d) => d.at <= this.now)
    this.due = this.due.filter((d) => d.at > this.now)
    for (const { frame } of ready) this.intake.push(frame, this.now)
    this.intake.tick(this.now)
    this.store.publish()
  }

  run(lateJoin: number): void {
    this.sent = lateJoin
    while (this.sent < this.frames.length) {
      if (this.random() < 0.6) this.tell()
      this.step()
    }
    // Nothing further is said that would show a loss at the end: the client comes back.
    for (let i = 0; i < 20_000 && this.intake.head < this.frames.length; i++) {
      if (i % 400 === 399) this.resumeAt ??= { at: this.now + 1, after: this.intake.head }
      this.step()
    }
    // The frames of the screen that show the rest.
    while (this.store.publish()) continue
  }
}

function script(seed: number): World {
  const world = new World(rng(seed))
  for (let i = 0; i < 3; i++) world.turn()
  return world
}

describe('the store', () => {
  it('holds the answers that the node holds', () => {
    for (let seed = 0; seed < 100; seed++) {
      const world = script(seed)
      const store = plain(world.frames)
      for (const [row, text] of world.answers) {
        expect(store.row(row)!.view.content).toBe(text)
        const texts = store.row(row)!.view.blocks.filter((b) => b.type === 'text')
        expect(texts.map((b) => b.content).join('')).toBe(text)
      }
      expect(store.report).toEqual({ afterEnd: 0, broken: 0 })
    }
  })

  it('shows the same as a fresh page, whatever the wire does', () => {
    for (let seed = 0; seed < SEEDS; seed++) {
      const world = script(seed)
      const random = rng(seed + 1_000_000)
      const wire = new Wire(world.frames, random, true)
      wire.run(Math.floor(random() * world.frames.length))
      expect(wire.intake.head, `seed ${seed}`).toBe(world.frames.length)
      expect(shown(wire.store), `seed ${seed}`).toEqual(shown(plain(world.frames)))
      expect(wire.store.report.broken, `seed ${seed}`).toBe(0)
      const text = wire.store.items.map((i) => i.key)
      expect(new Set(text).size, 'keys are unique').toBe(text.length)
    }
  })

  it('shows in segments exactly what is stored', () => {
    for (let seed = 0; seed < 100; seed++) {
      const wire = new Wire(script(seed).frames, rng(seed), true)
      wire.run(0)
      for (const row of wire.store.messages()) {
        for (const block of row.view.blocks.filter((b) => b.type === 'text')) {
          const segments = wire.store.segmenter(block)
          expect(segments.settled.join('') + segments.tail).toBe(block.content)
        }
      }
    }
  })

  it('asks for nothing on a faultless wire', () => {
    for (let seed = 0; seed < 50; seed++) {
      const wire = new Wire(script(seed).frames, rng(seed), false)
      wire.run(0)
      const { dropped, gaps, resumes, rejoins } = wire.intake.counts
      // What came before the join answered is in its answer.
      expect(dropped).toBeLessThanOrEqual(6)
      expect({ gaps, resumes, rejoins }).toEqual({ gaps: 0, resumes: 0, rejoins: 0 })
    }
  })

  it('reports text after the end of its attempt and does not show it', () => {
    const world = script(3)
    const done = world.frames.find((f) => f.event === 'chat:done')!
    const cut = world.frames.slice(0, world.frames.indexOf(done) + 1)
    const store = plain(cut)
    const { subtask_id, attempt, offset } = done.data as { subtask_id: string; attempt: number; offset: number }
    const before = store.row(subtask_id)!.view.content
    const data = { seq: cut.length + 1, at: done.data.at, subtask_id, attempt, block_id: 'x', content: 'ghost', offset }
    store.apply({ event: 'chat:chunk', data })
    expect(store.row(subtask_id)!.view.content).toBe(before)
    expect(store.report.afterEnd).toBe(1)
  })

  it('joins anew when an offset does not fit', () => {
    const world = script(5)
    const at = world.frames.findIndex((f) => f.event === 'chat:chunk' && 'content' in f.data)
    const store = plain(world.frames.slice(0, at))
    const wrong = copy(world.frames[at]!) as Extract<Frame, { event: 'chat:chunk' }>
    wrong.data.offset = 77
    expect(store.apply(wrong)).toBe(false)
    expect(store.report.broken).toBe(1)
  })
})

describe('the intake', () => {
  const frame = (seq: number): Frame => ({ event: 'task:updated', data: { seq, at: '' } })
  const setup = (takes = true) => {
    const said: string[] = []
    const intake = new Intake({
      apply: (f) => {
        said.push(`apply ${f.data.seq}`)
        return takes
      },
      resume: (after) => said.push(`resume ${after}`),
      rejoin: () => said.push('rejoin'),
    })
    return { said, intake }
  }

  it('holds frames until the join answers, then drops what the join brought', () => {
    const { said, intake } = setup()
    intake.push(frame(4), 0)
    intake.push(frame(6), 0)
    intake.push(frame(5), 0)
    expect(said).toEqual([])
    intake.joined(4, 1)
    expect(said).toEqual(['apply 5', 'apply 6'])
    expect(intake.counts.dropped).toBe(1)
  })

  it('counts doubles, waits 150 ms for a gap, resumes once, joins anew after 2 s', () => {
    const { said, intake } = setup()
    intake.joined(0, 0)
    intake.push(frame(1), 0)
    intake.push(frame(1), 0)
    intake.push(frame(3), 10)
    intake.tick(100)
    expect(said).toEqual(['apply 1'])
    intake.tick(160)
    intake.tick(1_000)
    expect(said).toEqual(['apply 1', 'resume 1'])
    intake.tick(2_160)
    expect(said.at(-1)).toBe('rejoin')
    expect(intake.counts).toMatchObject({ dropped: 1, gaps: 1, resumes: 1, rejoins: 1 })
  })

  it('a gap that closes by itself asks for nothing', () => {
    const { said, intake } = setup()
    intake.joined(0, 0)
    intake.push(frame(2), 0)
    intake.push(frame(1), 100)
    intake.tick(5_000)
    expect(said).toEqual(['apply 1', 'apply 2'])
    expect(intake.waiting).toBe(false)
  })

  it('a full map asks at once', () => {
    const { said, intake } = setup()
    intake.joined(0, 0)
    for (let seq = 2; seq < 2_004; seq++) intake.push(frame(seq), 0)
    expect(said).toEqual(['resume 0'])
  })

  it('what does not fit joins anew', () => {
    const { said, intake } = setup(false)
    intake.joined(0, 0)
    intake.push(frame(1), 0)
    expect(said).toEqual(['apply 1', 'rejoin'])
    expect(intake.head).toBe(0)
  })
})

describe('why a Task waits', () => {
  it('is over when its model answers', () => {
    const row = { subtask_id: 'm', attempt: 1 }
    const wait = { code: 'rate_limit', args: { retry_at: '2026-01-01T00:05:00Z' } }
    const held: Frame = { event: 'chat:status_updated', data: { ...base(1), ...row, phase: 'retrying', wait } }
    const chunk: Frame = { event: 'chat:chunk', data: { ...base(2), ...row, block_id: 'b', content: 'a', offset: 0 } }
    const store = plain([held])
    expect(store.task?.wait).toEqual(wait)
    store.apply({ ...chunk, data: { ...chunk.data, late: true } })
    expect(store.task?.wait).toEqual(wait)
    store.apply(chunk)
    expect(store.task?.wait).toBeUndefined()
  })
})
