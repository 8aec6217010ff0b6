// Unified diffs, line by line.

import type { Block } from '../api/types'

export interface DiffFile {
  path: string
  change: 'added' | 'modified' | 'deleted' | 'renamed'
  /** Lines; null for a binary file. */
  added: number | null
  removed: number | null
}

export interface PatchLine {
  text: string
  sort: 'add' | 'del' | 'hunk' | 'head' | 'same'
}

/** Lines that are shown before somebody asks for the rest. */
export const LINES_MAX = 400

const CHANGES = ['added', 'modified', 'deleted', 'renamed'] as const
const count = (value: unknown): number | null => (typeof value === 'number' ? value : null)

export function filesOf(block: Block): DiffFile[] {
  const list = Array.isArray(block.files) ? (block.files as Record<string, unknown>[]) : []
  return list
    .filter((f) => typeof f.path === 'string')
    .map((f) => ({ path: f.path as string, change: CHANGES.find((c) => c === f.change) ?? 'modified', added: count(f.added), removed: count(f.removed) }))
}

export const totals = (files: readonly DiffFile[]): { added: number; removed: number } => ({
  added: files.reduce((sum, f) => sum + (f.added ?? 0), 0),
  removed: files.reduce((sum, f) => sum + (f.removed ?? 0), 0),
})

const HEAD = /^(?:diff |index |new file|deleted file|old mode|new mode|rename |copy |similarity |Binary )/

/** Inside of a hunk a line is what its sign says, also where it looks like a head. */
export function linesOf(patch: string): PatchLine[] {
  let old = 0
  let fresh = 0
  // Without any hunk the signs alone speak.
  const bare = !/^@@ /m.test(patch)
  return patch.replace(/\n$/, '').split('\n').map((text): PatchLine => {
    const hunk = /^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@/.exec(text)
    if (hunk) {
      old = Number(hunk[1] ?? 1)
      fresh = Number(hunk[2] ?? 1)
      return { text, sort: 'hunk' }
    }
    const inside = bare || old > 0 || fresh > 0
    if (inside && text.startsWith('+')) {
      fresh--
      return { text, sort: 'add' }
    }
    if (inside && text.startsWith('-')) {
      old--
      return { text, sort: 'del' }
    }
    if (!bare && inside && !text.startsWith('\\')) {
      old--
      fresh--
      return { text, sort: 'same' }
    }
    const head = HEAD.test(text) || text.startsWith('--- ') || text.startsWith('+++ ')
    return { text, sort: head && !inside ? 'head' : 'same' }
  })
}
