// Formulas, as MathML that the browser itself lays out. The library comes with the first one.

import { memo, useEffect, useReducer } from 'react'
import { keep } from './keep'

/** Above this a formula stays its source. */
const SOURCE_MAX = 4_000
const KEPT_MAX = 300

type Katex = typeof import('katex').default
let katex: Katex | null = null
const kept = new Map<string, string>()

const loading = (): Promise<void> =>
  import('katex').then((module) => {
    katex = module.default
  })

/** MathML; null: not yet, or it is none. */
function made(source: string, block: boolean): string | null {
  if (source.length > SOURCE_MAX) return null
  const key = `${block ? 'b' : 'i'}${source}`
  const known = kept.get(key)
  if (known !== undefined) return known || null
  if (!katex) return null
  let html = ''
  try {
    // Neither links nor images nor classes of the writer's; macros cannot expand without end.
    html = katex.renderToString(source, { output: 'mathml', displayMode: block, trust: false, maxExpand: 200, maxSize: 20, errorColor: 'currentColor' })
  } catch {
    // Its source says more than half of it would.
  }
  keep(kept, key, html, KEPT_MAX)
  return html || null
}

export const Maths = memo(function Maths({ source, block = false }: { source: string; block?: boolean }) {
  const [, again] = useReducer((n: number) => n + 1, 0)
  const html = made(source, block)
  useEffect(() => {
    // It may have come between the drawing of this and now.
    if (katex) return html === null ? again() : undefined
    let here = true
    void loading().then(() => here && again(), () => undefined)
    return () => {
      here = false
    }
  }, [html])
  if (html === null) return block ? <pre className="overflow-x-auto font-mono text-[13px]">{source}</pre> : <code>{source}</code>
  return block ? (
    <div tabIndex={0} role="group" data-maths className="overflow-x-auto py-1" dangerouslySetInnerHTML={{ __html: html }} />
  ) : (
    <span data-maths dangerouslySetInnerHTML={{ __html: html }} />
  )
})
