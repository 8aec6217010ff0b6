// Diagrams of Mermaid: drawn once their text is whole, kept by source and theme.

import { Code, Workflow } from 'lucide-react'
import { memo, useEffect, useId, useReducer, useState, useSyncExternalStore } from 'react'
import { useTranslation } from 'react-i18next'
import { CodeBlock } from './code'
import { keep } from './keep'

/** Above this a diagram stays its source. */
const SOURCE_MAX = 20_000
const KEPT_MAX = 60

type Drawn = { svg: string } | { fault: string }
const kept = new Map<string, Drawn>()

const isDark = (): boolean => document.documentElement.dataset.theme === 'dark'

/** The theme that is shown now: `data-theme` of the page. */
function useDark(): boolean {
  return useSyncExternalStore((changed) => {
    const observer = new MutationObserver(changed)
    observer.observe(document.documentElement, { attributeFilter: ['data-theme'] })
    return () => observer.disconnect()
  }, isDark)
}

/** Tags as text, but for line breaks: labels are measured as HTML before they are cleaned. */
const inert = (source: string): string => source.replaceAll(/<(?=\/?[a-z])(?!br\b)/gi, '#lt;')

/** A drawing leads nowhere: a link in it would not show its host. */
const unlinked = (svg: string): string => svg.replaceAll(/<(\/?)a(?=[\s>])/g, '<$1g').replaceAll(/\s(?:xlink:)?href="(?!#)[^"]*"/g, '')

// One after the other: the library has one set of options for all.
let last: Promise<unknown> = Promise.resolve()

function draw(id: string, source: string, dark: boolean): Promise<Drawn> {
  const drawing = last.then(async (): Promise<Drawn> => {
    const { default: mermaid } = await import('mermaid')
    mermaid.initialize({
      startOnLoad: false,
      // No scripts, no links, no HTML of the writer's.
      securityLevel: 'strict',
      htmlLabels: false,
      flowchart: { htmlLabels: false },
      class: { htmlLabels: false },
      suppressErrorRendering: true,
      theme: dark ? 'dark' : 'neutral',
      fontFamily: getComputedStyle(document.body).fontFamily,
      maxTextSize: SOURCE_MAX,
      maxEdges: 300,
    })
    try {
      const { svg } = await mermaid.render(id, inert(source))
      return { svg: unlinked(svg) }
    } catch (error) {
      return { fault: error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error) }
    }
  })
  last = drawing.catch(() => undefined)
  return drawing
}

/** A diagram, or its source: while it is drawn, if it cannot be, and on demand. */
export const Drawing = memo(function Drawing({ source }: { source: string }) {
  const { t } = useTranslation()
  const id = `drawing-${useId().replaceAll(/[^a-zA-Z0-9]/g, '')}`
  const dark = useDark()
  const [asCode, setAsCode] = useState(false)
  const key = `${dark ? 'd' : 'l'}${source}`
  const [, again] = useReducer((n: number) => n + 1, 0)
  const drawn = kept.get(key)
  useEffect(() => {
    if (drawn || source.length > SOURCE_MAX) return
    // Another one of the same may have been drawn between the drawing of this and now.
    if (kept.has(key)) return again()
    let here = true
    void draw(id, source, dark).then(
      (made) => {
        keep(kept, key, made, KEPT_MAX)
        if (here) again()
      },
      // The library did not come: its source is there.
      () => undefined,
    )
    return () => {
      here = false
    }
  }, [drawn, key, id, source, dark])
  const svg = drawn && 'svg' in drawn ? drawn.svg : null
  if (!svg || asCode) {
    return (
      <>
        <CodeBlock info="mermaid" code={source} />
        {drawn && 'fault' in drawn && <p className="mt-1 text-meta text-text-3">{t('block.noDrawing', { fault: drawn.fault })}</p>}
        {svg && <Switch to="drawing" onClick={() => setAsCode(false)} />}
      </>
    )
  }
  return (
    <figure className="rounded-panel border border-line bg-surface">
      <div role="img" aria-label={t('block.drawing')} tabIndex={0} data-drawing className="overflow-x-auto p-3 [&>svg]:mx-auto [&>svg]:h-auto [&>svg]:max-h-[70vh]" dangerouslySetInnerHTML={{ __html: svg }} />
      <figcaption className="flex justify-end border-t border-line px-1">
        <Switch to="source" onClick={() => setAsCode(true)} />
      </figcaption>
    </figure>
  )
})

function Switch({ to, onClick }: { to: 'drawing' | 'source'; onClick: () => void }) {
  const { t } = useTranslation()
  const Icon = to === 'drawing' ? Workflow : Code
  return (
    <button type="button" className="btn btn-quiet h-8 text-meta" onClick={onClick}>
      <Icon size={14} strokeWidth={1.5} aria-hidden />
      {t(to === 'drawing' ? 'block.showDrawing' : 'block.showSource')}
    </button>
  )
}
