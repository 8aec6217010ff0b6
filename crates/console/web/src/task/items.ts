// What the transcript shows, a list of keyed items made from rows.

import type { AttemptView, Block } from '../api/types'
import type { Row, RowNote } from './row'
import type { Segmenter } from './segments'

export type Item =
  | { kind: 'said'; key: string; row: Row }
  | { kind: 'head'; key: string; row: Row }
  | { kind: 'interrupted'; key: string; row: Row; attempt: AttemptView }
  | { kind: 'text'; key: string; row: Row; block: Block; segment: number }
  | { kind: 'block'; key: string; row: Row; block: Block }
  | { kind: 'note'; key: string; row: Row; note: RowNote }
  | { kind: 'foot'; key: string; row: Row }
  /** A stage is ready and a person decides; `row` is its answer. */
  | { kind: 'gate'; key: string; row: Row; stage: number }

/** Items of one message. Keys stay when more comes. */
export function itemsOf(row: Row, segmenterOf: (block: Block) => Segmenter): Item[] {
  const { view } = row
  const id = view.subtask_id
  if (view.kind === 'user' || view.kind === 'handoff') return [{ kind: 'said', key: id, row }]
  const items: Item[] = [{ kind: 'head', key: id, row }]
  for (const attempt of view.attempts) {
    const lost = attempt.error?.continues || attempt.error?.type === 'lost'
    if (attempt.interrupted?.length || (lost && attempt !== view.attempts.at(-1))) {
      items.push({ kind: 'interrupted', key: `${id}!${attempt.attempt}`, row, attempt })
    }
  }
  if (view.blocks.length === 0 && view.content !== '' && view.attempts.length === 0) {
    const block: Block = { id: `${id}.c`, type: 'text', status: 'done', timestamp: 0 }
    block.content = view.content
    push(items, row, block, segmenterOf)
  }
  for (const block of view.blocks) {
    // What a sub-agent does stands in its block.
    if (block.parent_tool_use_id && view.blocks.some((b) => isWithin(block, b))) continue
    push(items, row, block, segmenterOf)
  }
  if (view.status === 'RUNNING' || view.status === 'PENDING') {
    row.notes.forEach((note, i) => items.push({ kind: 'note', key: `${id}~${i}`, row, note }))
  }
  items.push({ kind: 'foot', key: `${id}$`, row })
  return items
}

/** Whether a block is what this sub-agent did. */
export const isWithin = (block: Block, agent: Block): boolean => agent.type === 'subagent' && !!block.parent_tool_use_id && block.parent_tool_use_id === agent.tool_use_id

function push(items: Item[], row: Row, block: Block, segmenterOf: (b: Block) => Segmenter): void {
  if (block.type !== 'text') {
    items.push({ kind: 'block', key: block.id, row, block })
    return
  }
  const segments = segmenterOf(block)
  const count = segments.settled.length + (segments.tail === '' ? 0 : 1)
  for (let segment = 0; segment < count; segment++) {
    items.push({ kind: 'text', key: `${block.id}#${segment}`, row, block, segment })
  }
}
