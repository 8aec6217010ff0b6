import { memo } from 'react'
import remend from 'remend'
import type { Block } from '../api/types'
import { CodeBlock, Markdown } from '../parts/markdown'
import { useSession, useThrottled, useTopic } from './hooks'
import type { Row } from './row'
import { PARSE_MAX, TAIL_MAX, withDefinitions } from './segments'

interface SegmentProps {
  row: Row
  block: Block
  segment: number
}

/** A piece of an answer: parsed once when it is over, 20 times a second at most before. */
export function TextSegment({ block, segment }: SegmentProps) {
  const { store } = useSession()
  useTopic(store, block.id)
  const segmenter = store.segmenter(block)
  const settled = segmenter.settled[segment]
  if (settled !== undefined) {
    return <Settled source={withDefinitions(settled, segmenter.definitions)} />
  }
  const fence = segmenter.openFence
  if (fence && block.status === 'streaming') return <LiveCode info={fence.info} code={fence.code} />
  const { tail } = segmenter
  if (block.status !== 'streaming') {
    return <Settled source={withDefinitions(tail, segmenter.definitions)} />
  }
  return <LiveTail source={tail} />
}

const Settled = memo(function Settled({ source }: { source: string }) {
  if (source.length > PARSE_MAX) {
    return <div className="prose pb-2 whitespace-pre-wrap">{source}</div>
  }
  return (
    <div className="prose pb-2">
      <Markdown source={source} />
    </div>
  )
})

function LiveTail({ source }: { source: string }) {
  const shown = useThrottled(source, true)
  if (shown.length > TAIL_MAX) {
    return <div className="prose pb-2 whitespace-pre-wrap">{shown}</div>
  }
  return (
    <div className="prose pb-2">
      <Markdown source={closed(shown)} />
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
    <div className="prose pb-2">
      <CodeBlock info={info} code={shown} />
    </div>
  )
}
