import { Check, CircleHelp, Loader, X } from 'lucide-react'
import { lazy, Suspense, useState } from 'react'
import { useTranslation } from 'react-i18next'
import type { Block } from '../api/types'
import { duration } from '../i18n/format'
import { Markdown } from '../parts/markdown'
import { Fold } from './fold'
import { useSession, useThrottled, useTopic } from './hooks'
import { isWithin } from './items'
import type { Row } from './row'
import { Output } from './text-segment'

// They come with the first Task that asks.
const Approval = lazy(() => import('./approval').then((m) => ({ default: m.Approval })))
const DiffView = lazy(() => import('./diff').then((m) => ({ default: m.Diff })))
const Question = lazy(() => import('./question').then((m) => ({ default: m.Question })))

const LINES_MAX = 40
const BYTES_MAX = 4_096

/** A block that is no text of the answer. */
export function BlockView({ row, block }: { row: Row; block: Block }) {
  const { store } = useSession()
  useTopic(store, block.id)
  if (isAsk(block)) return <Ask block={block} live />
  if (block.type === 'subagent') return <SubAgent row={row} block={block} />
  return <StaticBlock block={block} ends={endOf(row, block)} />
}

const isAsk = (block: Block): boolean => block.type === 'approval' || block.type === 'question'

function Ask({ block, live = false }: { block: Block; live?: boolean }) {
  const Card = block.type === 'approval' ? Approval : Question
  return (
    <Suspense fallback={<div className="h-40" />}>
      <Card block={block} live={live} />
    </Suspense>
  )
}

/** When the next block began, or the attempt ended; ms of the clock. */
function endOf({ view }: Row, block: Block): number | null {
  const next = view.blocks[view.blocks.indexOf(block) + 1]
  if (next && next !== view.blocks[0]) return next.timestamp
  const ended = view.attempts.at(-1)?.ended_at
  return ended ? Date.parse(ended) : null
}

export function StaticBlock({ block, ends = null, output = false }: { block: Block; ends?: number | null; output?: boolean }) {
  switch (block.type) {
    case 'text':
      return output ? (
        <Output text={block.content ?? ''} />
      ) : (
        <div className="prose pb-2">
          <Markdown source={block.content ?? ''} />
        </div>
      )
    case 'thinking':
      return <Thinking block={block} ends={ends} />
    case 'tool':
      return <Tool block={block} />
    case 'approval':
    case 'question':
      return <Ask block={block} />
    case 'diff':
      return (
        <Suspense fallback={<div className="h-14" />}>
          <DiffView block={block} />
        </Suspense>
      )
    case 'subagent':
      return <SubAgent block={block} />
    case 'confirmation':
      // The decision itself stands behind the answer.
      return null
    default:
      return <Unknown block={block} />
  }
}

/** The last whole sentence, to show while it thinks. */
function lastSentence(text: string): string {
  const whole = text.slice(-600).match(/[^.!?。！？\n]+[.!?。！？]/gu)
  return (whole?.at(-1) ?? '').trim()
}

function Thinking({ block, ends }: { block: Block; ends: number | null }) {
  const { t } = useTranslation()
  const live = block.status === 'streaming'
  const text = useThrottled(block.content ?? '', live)
  const sentence = live ? lastSentence(text) : ''
  const took = ends !== null && block.timestamp > 0 ? ends - block.timestamp : 0
  return (
    <Fold
      line={
        <span className="text-think">
          {live ? t('block.thinkingLive') : took >= 1_000 ? t('block.thoughtFor', { time: duration(took) }) : t('block.thinking')}
          {sentence && <span className="text-text-3">{` · ${sentence}`}</span>}
        </span>
      }
    >
      <p className="text-ui whitespace-pre-wrap text-text-2">{text}</p>
    </Fold>
  )
}

const STATE_COLOUR: Record<string, string> = {
  done: 'text-success',
  error: 'text-danger',
  unknown: 'text-warn',
}

function State({ status }: { status: Block['status'] }) {
  const { t } = useTranslation()
  const Icon = status === 'done' ? Check : status === 'error' ? X : status === 'unknown' ? CircleHelp : Loader
  return (
    <span className={`flex shrink-0 items-center gap-1 pr-1 text-meta ${STATE_COLOUR[status] ?? 'text-text-2'}`}>
      <Icon size={14} strokeWidth={1.5} aria-hidden />
      {t(`block.states.${status}`)}
    </span>
  )
}

/** A sub-agent, or a member of a team that its runtime runs; with its row, what it does. */
function SubAgent({ block, row }: { block: Block; row?: Row }) {
  const { t } = useTranslation()
  const { store } = useSession()
  useTopic(store, row?.view.subtask_id ?? block.id)
  const title = typeof block.title === 'string' ? block.title : ''
  const live = block.status === 'running'
  const text = useThrottled(block.content ?? '', live)
  const steps = row?.view.blocks.filter((b) => isWithin(b, block)) ?? []
  return (
    <Fold
      line={
        <>
          <span className="font-semibold">{t('block.subagent')}</span>
          {title && <span>{` · ${title}`}</span>}
        </>
      }
      end={
        <>
          {steps.length > 0 && <span className="shrink-0 text-meta text-text-3">{t('block.steps', { count: steps.length })}</span>}
          <State status={block.status} />
        </>
      }
    >
      {row && steps.map((step) => <BlockView key={step.id} row={row} block={step} />)}
      {text ? (
        <div className="prose">
          <Markdown source={text} />
        </div>
      ) : (
        <p className="text-meta text-text-3">{t('block.noOutput')}</p>
      )}
    </Fold>
  )
}

function Tool({ block }: { block: Block }) {
  const { t } = useTranslation()
  const name = block.display_name ?? block.tool_name ?? t('block.tool')
  const input = block.tool_input
  const short = input && typeof input === 'object' ? JSON.stringify(input) : ''
  return (
    <Fold
      line={
        <>
          <span className="font-mono font-semibold">{name}</span>
          {block.server_label && <span className="text-text-3">{` · ${block.server_label}`}</span>}
          {short && short !== '{}' && <span className="font-mono text-text-3">{` ${short}`}</span>}
        </>
      }
      end={<State status={block.status} />}
    >
      {block.status === 'unknown' && <p className="mb-2 text-warn">{t('block.unknownTool')}</p>}
      <Clipped label={t('block.input')} text={typeof input === 'string' ? input : JSON.stringify(input ?? null, null, 2)} />
      {block.tool_output !== null && block.tool_output !== undefined ? (
        <Clipped label={t('block.output')} text={block.tool_output} />
      ) : (
        <p className="text-meta text-text-3">{t('block.noOutput')}</p>
      )}
    </Fold>
  )
}

function Clipped({ label, text }: { label: string; text: string }) {
  const { t } = useTranslation()
  const [all, setAll] = useState(false)
  const lines = text.split('\n')
  const clip = !all && (lines.length > LINES_MAX || text.length > BYTES_MAX)
  const shown = clip ? lines.slice(0, LINES_MAX).join('\n').slice(0, BYTES_MAX) : text
  return (
    <div className="mb-2">
      <p className="mb-1 text-meta text-text-3">{label}</p>
      <pre tabIndex={0} className="max-h-96 overflow-auto rounded-control bg-sunken px-3 py-2 font-mono text-[12px] leading-[18px] whitespace-pre-wrap">
        {shown}
      </pre>
      {clip && (
        <button type="button" className="btn-link mt-1" onClick={() => setAll(true)}>
          {t('block.openAll', { lines: lines.length })}
        </button>
      )}
    </div>
  )
}

function Unknown({ block }: { block: Block }) {
  const { t } = useTranslation()
  return (
    <Fold line={t('block.other', { type: block.type })}>
      <Clipped label={block.type} text={JSON.stringify(block, null, 2)} />
    </Fold>
  )
}
