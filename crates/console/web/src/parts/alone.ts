// Which line opens a block of formulas.

import type { Code, Construct, Extension } from 'micromark-util-types'

const DOLLAR = 36
const SPACE = 32

const isSpace = (code: Code): boolean => code === SPACE || code === -2 || code === -1
const isEnd = (code: Code): boolean => code === null || code < -2

/** Dollars, and nothing else up to the end of the line. */
const DOLLARS_ALONE: Construct = {
  partial: true,
  tokenize(effects, ok, nok) {
    const dollars = (code: Code) => {
      if (code === DOLLAR) {
        effects.consume(code)
        return dollars
      }
      return rest(code)
    }
    const rest = (code: Code) => {
      if (isSpace(code)) {
        effects.consume(code)
        return rest
      }
      effects.exit('data')
      return isEnd(code) ? ok(code) : nok(code)
    }
    return (code) => {
      effects.enter('data')
      return dollars(code)
    }
  },
}

interface Holder {
  data: () => { micromarkExtensions?: Extension[] }
}

/** After `remark-math`: "$$ is the process id" opens nothing, though its grammar would say so. */
export function dollarsAlone(this: unknown): void {
  const math = (this as Holder).data().micromarkExtensions?.at(-1)
  const block = math?.flow?.[DOLLAR] as Construct | undefined
  if (!math?.flow || !block) return
  math.flow[DOLLAR] = {
    ...block,
    tokenize(effects, ok, nok) {
      return effects.check(DOLLARS_ALONE, block.tokenize.call(this, effects, ok, nok), nok)
    },
  }
}
