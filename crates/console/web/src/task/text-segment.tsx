import { memo } from 'react'
import remend from 'remend'
import type { Block } from '../api/types'
import { CodeBlock, Lines } from '../parts/code'
import { Fenced } from '../parts/fenced'
import { LiveMarkdown, Markdown } from '../parts/markdown'
import { useSession, useThrottled, useTopic } from './hooks'
import type { Row } from './row'
import { fenceOf, PARSE_MAX, TAIL_MAX, withDefinitions } from './segments'

interface SegmentProps {
  row: Row
  block: Block
  segment: number
}

/** A piece of an answer: parsed once when it is over, 20 times a second at most before. */
export function TextSegment({ row, block, segment }: SegmentProps) {
  const { store } = useSession()
  useTopic(store, block.id)
  const segmenter = store.segmenter(block)
  if (isOutput(row.view.attempts.at(-1)?.shell_type)) {
    return <Output text={segmenter.settled[segment] ?? segmenter.tail} live={segment >= segmenter.settled.length} />
  }
  const head = segmenter.head(segment)
  const settled = segmenter.settled[segment]
  if (settled !== undefined) {
    return <Settled source={head + withDefinitions(settled, segmenter.definitions)} />
  }
  const { tail } = segmenter
  if (block.status !== 'streaming' && !segmenter.pending) {
    return <Settled source={head + withDefinitions(tail, segmenter.definitions)} />
  }
  const fence = segmenter.openFence
  if (fence) return <LiveCode info={fence.info} code={fence.code} />
  return <LiveTail source={head + tail} />
}

/** Whether the text of such a Bot is what a program printed, and no Markdown. */
export const isOutput = (shell: string | undefined): boolean => shell === 'Command'

/** Output of a program, character for character. */
export function Output({ text, live = false }: { text: string; live?: boolean }) {
  const shown = useThrottled(text, live)
  return (
    <div className="font-mono text-ui break-words whitespace-pre-wrap">
      <Lines text={shown.replace(/\n$/, '')} />
    </div>
  )
}

const Settled = memo(function Settled({ source }: { source: string }) {
  const fence = fenceOf(source)
  return (
    <div className="prose pb-3">
      {fence ? <Fenced info={fence.info} code={fence.code} /> : source.length > PARSE_MAX ? <Plain text={source} /> : <Markdown source={source} />}
    </div>
  )
})

function LiveTail({ source }: { source: string }) {
  const shown = useThrottled(source, true)
  return <div className="prose pb-3">{shown.length > TAIL_MAX + 1 ? <Plain text={shown} /> : <LiveMarkdown source={closed(shown)} />}</div>
}

function Plain({ text }: { text: string }) {
  return (
    <div className="whitespace-pre-wrap">
      <Lines text={text} />
    </div>
  )
}

/** Unfinished marks closed; a table waits for its delimiter row. */
function closed(source: string): string {
  const lines = source.split('\n')
  let last = lines.length - 1
  while (last >= 0 && lines[last]!.trim() === '') last--
  let first = last
  while (first > 0 && lines[first - 1]!.trimStart().startsWith('|')) first--
  const opensTable = last >= 0 && lines[last]!.trimStart().startsWith('|') && last - first < 2
  const shown = opensTable ? lines.slice(0, first).join('\n') : source
  return remend(shown)
}

function LiveCode({ info, code }: { info: string; code: string }) {
  const shown = useThrottled(code, true)
  return (
    <div className="prose pb-3">
      <CodeBlock info={info} code={shown} live />
    </div>
  )
}
