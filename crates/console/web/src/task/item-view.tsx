import { memo } from 'react'
import type { ReactNode } from 'react'
import type { Block } from '../api/types'
import { isOpen } from './ask'
import { BlockView } from './block-view'
import { Foot } from './foot'
import { Gate } from './gate'
import { Head } from './head'
import { Interrupted, Note } from './interrupted'
import { useSession, useTopic } from './hooks'
import type { Item } from './items'
import { Said } from './said'
import { TextSegment } from './text-segment'

/** One row of the transcript. */
export const ItemView = memo(function ItemView({ item }: { item: Item }) {
  switch (item.kind) {
    case 'said':
      return <Said row={item.row} />
    case 'head':
      return <Head row={item.row} />
    case 'interrupted':
      return (
        <Threaded style="hatched">
          <Interrupted row={item.row} attempt={item.attempt} />
        </Threaded>
      )
    case 'text':
      return (
        <Growing block={item.block}>
          <TextSegment row={item.row} block={item.block} segment={item.segment} />
        </Growing>
      )
    case 'block':
      return (
        <Growing block={item.block}>
          <BlockView row={item.row} block={item.block} />
        </Growing>
      )
    case 'note':
      return (
        <Threaded style="live">
          <Note note={item.note} />
        </Threaded>
      )
    case 'gate':
      return (
        <Threaded style="notch">
          <Gate row={item.row} stage={item.stage} />
        </Threaded>
      )
    case 'foot':
      return (
        <Threaded style="end">
          <Foot row={item.row} />
        </Threaded>
      )
  }
})

const LINE = {
  settled: 'border-l-2 border-line',
  live: 'border-l-2 border-dashed border-accent',
  hatched: 'border-l-2 border-dotted border-text-3',
  notch: 'border-l-2 border-warn',
  end: 'border-l-2 border-transparent',
}

function Growing({ block, children }: { block: Block; children: ReactNode }) {
  const { store } = useSession()
  useTopic(store, block.id)
  if (isOpen(block)) return <Threaded style="notch">{children}</Threaded>
  return <Threaded style={block.status === 'streaming' || block.status === 'running' ? 'live' : 'settled'}>{children}</Threaded>
}

function Threaded({ style, children }: { style: keyof typeof LINE; children: ReactNode }) {
  return <div className={`ml-[5px] min-w-0 pb-1 pl-[17px] ${LINE[style]}`}>{children}</div>
}
