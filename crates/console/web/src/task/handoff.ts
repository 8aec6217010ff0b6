// What the node would hand to the next stage by itself, to show it before it happens.

export type Passing = 'none' | 'original_user' | 'previous_bot' | 'original_and_previous'

export function handoffText(passing: Passing, original: string, member: string, answer: string): string {
  const request = `## Original request\n\n${original}`
  const result = `## Result of ${member}\n\n${answer}`
  switch (passing) {
    case 'none':
      return ''
    case 'original_user':
      return request
    case 'previous_bot':
      return result
    case 'original_and_previous':
      return `${request}\n\n${result}`
  }
}

const WORDS: readonly Passing[] = ['none', 'original_user', 'previous_bot', 'original_and_previous']

/** The rule of a member in a Team's document; absent means nothing is passed on. */
export function passingOf(spec: Record<string, unknown>, stage: number): Passing {
  const members = Array.isArray(spec.members) ? (spec.members as { contextPassing?: unknown }[]) : []
  return WORDS.find((word) => word === members[stage]?.contextPassing) ?? 'none'
}
