// Code blocks: a language, wrap, copy, and colours once the code is whole.

import { WrapText } from 'lucide-react'
import { memo, useEffect, useState } from 'react'
import { useTranslation } from 'react-i18next'
import { coloured, colours } from './colours'
import type { Line } from './colours'
import { CopyButton } from './copy'

/** Lines that are laid out together: a line more touches the last group alone. */
const GROUP = 50

function groupsOf<T>(lines: readonly T[]): T[][] {
  const groups: T[][] = []
  for (let at = 0; at < lines.length; at += GROUP) groups.push(lines.slice(at, at + GROUP))
  return groups
}

const PlainGroup = memo(function PlainGroup({ text }: { text: string }) {
  return <span className="block">{text}</span>
})

/** Text that keeps its lines, in groups that the browser lays out apart. */
export function Lines({ text }: { text: string }) {
  // A line break at the very end of a block shows nothing, so that each group ends with one.
  return groupsOf(text.split('\n')).map((lines, i) => <PlainGroup key={i} text={`${lines.join('\n')}\n`} />)
}

const ColouredGroup = memo(function ColouredGroup({ lines }: { lines: readonly Line[] }) {
  return (
    <span className="block">
      {lines.map((line, i) => (
        <span key={i}>
          {line.map(([text, kind], k) => (kind ? <span key={k} className={`hl-${kind}`}>{text}</span> : text))}
          {'\n'}
        </span>
      ))}
    </span>
  )
})

/** The colours of a text that is whole, as soon as the worker has them. */
function useColours(language: string, code: string, live: boolean): readonly Line[] | null {
  const [found, setFound] = useState<{ of: string; lines: readonly Line[] } | null>(null)
  const known = live ? null : coloured(language, code)
  useEffect(() => {
    if (live || known) return
    return colours(language, code, (lines) => setFound({ of: code, lines }))
  }, [live, known, language, code])
  if (live) return null
  return known ?? (found?.of === code ? found.lines : null)
}

interface CodeBlockProps {
  info: string
  code: string
  /** It grows: line by line, as plain text. */
  live?: boolean
  /** Nothing of it may be out of sight. */
  whole?: boolean
}

export const languageOf = (info: string): string => info.split(/[\s{,]/)[0] ?? ''

export const CodeBlock = memo(function CodeBlock({ info, code, live = false, whole = false }: CodeBlockProps) {
  const { t } = useTranslation()
  const [wrap, setWrap] = useState(whole)
  const language = languageOf(info)
  const lines = useColours(language, code, live)
  return (
    <figure className="overflow-hidden rounded-panel border border-line bg-sunken">
      <figcaption className="flex h-8 items-center justify-between border-b border-line pr-1 pl-3 font-mono text-meta text-text-2">
        <span className="min-w-0 truncate">{language || t('block.code')}</span>
        <span className="flex shrink-0">
          <button type="button" className={`btn-glyph ${wrap ? 'text-accent' : ''}`} aria-label={t('block.wrap')} title={t('block.wrap')} aria-pressed={wrap} onClick={() => setWrap(!wrap)}>
            <WrapText size={14} strokeWidth={1.5} />
          </button>
          <CopyButton text={code} small label={t('block.copyCode')} />
        </span>
      </figcaption>
      <pre
        tabIndex={0}
        aria-label={language || t('block.code')}
        role="group"
        className={`overflow-x-auto px-3 py-2 font-mono text-[13px] leading-5 ${wrap ? 'whitespace-pre-wrap' : ''}`}
        style={{ margin: 0 }}
      >
        <code>{lines ? groupsOf(lines).map((group, i) => <ColouredGroup key={i} lines={group} />) : <Lines text={code} />}</code>
      </pre>
    </figure>
  )
})
