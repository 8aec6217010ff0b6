// What an agent asks its person: read from a block that any runner may have filled.

import type { Block } from '../api/types'

export interface AskedOption {
  label: string
  description: string
}

export interface AskedQuestion {
  id: string
  header: string
  text: string
  options: AskedOption[]
  multiple: boolean
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

export const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')

const isAsk = (block: Block): boolean => block.type === 'approval' || block.type === 'question'

/** A person is awaited. */
export const isOpen = (block: Block): boolean => isAsk(block) && block.status === 'pending'

const WORDS = ['allowed', 'allowed_always', 'denied', 'answered', 'expired', 'withdrawn'] as const
export type AskState = (typeof WORDS)[number] | 'pending' | 'over'

export interface Standing {
  state: AskState
  /** Committed, and not yet with the agent. */
  underWay: boolean
}

export function standing(block: Block): Standing {
  const word = WORDS.find((w) => w === block.tool_output)
  if (word) return { state: word, underWay: block.status === 'running' }
  return { state: isOpen(block) ? 'pending' : 'over', underWay: false }
}

/** What `allow always` would grant; null: it is not on offer. */
export function grantOf(block: Block): { tool: string; command: boolean } | null {
  const { always } = block
  if (!isObject(always)) return null
  return { tool: textOf(always.tool) || (block.tool_name ?? ''), command: typeof always.command === 'string' }
}

export interface Shown {
  /** What it is for, in the agent's words. */
  note: string
  code: string
  language: string
  /** Arguments that are not part of `code`. */
  rest: string
}

const LANGUAGES: Record<string, string> = { rs: 'rust', ts: 'typescript', js: 'javascript', py: 'python', sh: 'bash', md: 'markdown', yml: 'yaml' }

const extension = (path: string): string => {
  const end = /\.([a-z0-9]+)$/i.exec(path)?.[1]?.toLowerCase() ?? ''
  return LANGUAGES[end] ?? end
}

const signed = (sign: string, text: string): string => text.split('\n').map((line) => sign + line).join('\n')

/** Arguments of a tool as a person wants to read them. */
export function shownInput(input: unknown, title = ''): Shown {
  if (typeof input === 'string') return { note: '', code: input, language: '', rest: '' }
  if (!isObject(input)) return { note: '', code: JSON.stringify(input ?? null, null, 2), language: 'json', rest: '' }
  const left = { ...input }
  const take = (...names: string[]): string | null => {
    for (const name of names) {
      const value = left[name]
      const text = typeof value === 'string' ? value : Array.isArray(value) && value.every((v) => typeof v === 'string') ? value.join(' ') : null
      if (text === null) continue
      delete left[name]
      return text
    }
    return null
  }
  const path = textOf(input.file_path) || textOf(input.path)
  let code = take('command', 'cmd')
  let language = 'bash'
  if (code === null && path !== '' && typeof input.old_string === 'string' && typeof input.new_string === 'string') {
    code = `${signed('-', take('old_string')!)}\n${signed('+', take('new_string')!)}`
    language = 'diff'
  } else if (code === null && path !== '') {
    code = take('content')
    language = extension(path)
  }
  if (code === null) return { note: '', code: JSON.stringify(input, null, 2), language: 'json', rest: '' }
  const note = take('description') ?? ''
  // The title says it already.
  for (const name of ['file_path', 'path']) if (path !== '' && left[name] === path && title.endsWith(path)) delete left[name]
  const rest = Object.keys(left).length === 0 ? '' : JSON.stringify(left, null, 2)
  return { note, code: code.replace(/\n+$/, ''), language, rest }
}

export function questionsOf(block: Block): AskedQuestion[] {
  const list = Array.isArray(block.questions) ? block.questions.filter(isObject) : []
  return list.map((q, i) => ({
    id: textOf(q.id) || String(i),
    header: textOf(q.header),
    text: textOf(q.text),
    options: (Array.isArray(q.options) ? q.options.filter(isObject) : []).map((o) => ({ label: textOf(o.label), description: textOf(o.description) })),
    multiple: q.multiple === true,
  }))
}

/** What is chosen for one question, before it is sent. */
export interface Choice {
  chosen: string[]
  /** Own words are part of it. */
  own: boolean
  text: string
}

export const NOTHING: Choice = { chosen: [], own: false, text: '' }

/** After one option was pressed; of a single choice it is the only one. */
export function pressed(choice: Choice, label: string, multiple: boolean): Choice {
  if (!multiple) return { ...choice, chosen: [label], own: false }
  const has = choice.chosen.includes(label)
  return { ...choice, chosen: has ? choice.chosen.filter((c) => c !== label) : [...choice.chosen, label] }
}

/** The answer to a question; null: it has none yet. */
export function answerTo(question: AskedQuestion, choice: Choice): string[] | null {
  const own = choice.own || question.options.length === 0
  // In the order in which they are on offer, not in which they were pressed.
  const chosen = question.options.map((o) => o.label).filter((label) => choice.chosen.includes(label))
  const text = choice.text.trim()
  if (own && text === '') return null
  const all = [...chosen, ...(own ? [text] : [])]
  return all.length === 0 ? null : all
}
