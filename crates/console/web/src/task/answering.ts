// Sends what a person says to an approval or a question.

import { ApiError } from '../api/auth'
import { api } from '../api/http'
import type { BlockAnswer } from '../api/http'
import { randomId } from '../parts/ids'

const keys = new Map<string, { body: string; key: string }>()

/** What was said from this page, and taken: the word that the Task will have for it. */
const taken = new Map<string, string>()
const WORDS: Record<Said['answer'], string> = { allow: 'allowed', allow_always: 'allowed_always', deny: 'denied', reply: 'answered' }

export const takenWord = (task: string, block: string): string | undefined => taken.get(`${task}.${block}`)

/** One answer has one key, however often it is sent; another answer has another. */
export function keyOf(block: string, body: unknown): string {
  const text = JSON.stringify(body)
  const known = keys.get(block)
  if (known?.body === text) return known.key
  const made = { body: text, key: randomId() }
  keys.set(block, made)
  return made.key
}

export type Said = Omit<BlockAnswer, 'block_id' | 'client_message_id'>

/** `late`: somebody else was first, or nobody waits any more. */
export async function answer(task: string, block: string, said: Said): Promise<'taken' | 'late'> {
  try {
    const place = `${task}.${block}`
    await api.answer(task, { ...said, block_id: block, client_message_id: keyOf(place, said) })
    taken.set(place, WORDS[said.answer])
    return 'taken'
  } catch (error) {
    if (error instanceof ApiError && error.problem.status === 409) return 'late'
    throw error
  }
}
