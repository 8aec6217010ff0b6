// The frame around what an agent asks: it appears calm, takes one answer, and stays as a record.

import { Ban, Check, CircleHelp, Clock, Undo2 } from 'lucide-react'
import { useEffect, useRef, useState } from 'react'
import type { ReactNode } from 'react'
import { useTranslation } from 'react-i18next'
import type { Block } from '../api/types'
import { fullTime } from '../i18n/format'
import { announce } from '../parts/announce'
import { Diamond } from '../parts/state'
import { wordsOf } from '../parts/toast'
import { answer } from './answering'
import type { Said } from './answering'
import { standing } from './ask'
import type { AskState } from './ask'
import { useTask } from './hooks'

/** How long a fresh card takes neither key nor click: a press was meant for something else. */
const CALM_MS = 400

export interface Asking {
  busy: boolean
  calm: boolean
  /** Sent from here, or known to be answered; the frames will say how. */
  over: boolean
  late: boolean
  fault: string | null
  /** True: it was taken, now or before. */
  say: (said: Said) => Promise<boolean>
}

const announced = new Set<string>()

export function useAsking(block: Block, live: boolean, title: string): Asking {
  const { t } = useTranslation()
  const id = useTask()
  const [calm, setCalm] = useState(true)
  const [busy, setBusy] = useState(false)
  const [end, setEnd] = useState<'taken' | 'late' | null>(null)
  const [fault, setFault] = useState<string | null>(null)
  const open = live && block.status === 'pending'
  useEffect(() => {
    if (!open) return
    const timer = setTimeout(() => setCalm(false), CALM_MS)
    const key = `${id}.${block.id}`
    if (!announced.has(key)) announce(t('asks.notice', { title }))
    announced.add(key)
    return () => clearTimeout(timer)
  }, [open, id, block.id, title, t])
  const say = async (said: Said): Promise<boolean> => {
    if (busy || calm || end !== null) return false
    setBusy(true)
    setFault(null)
    try {
      setEnd(await answer(id, block.id, said))
      return true
    } catch (error) {
      setFault(t('asks.unsent', { reason: wordsOf(error) }))
      return false
    } finally {
      setBusy(false)
    }
  }
  return { busy, calm, over: end !== null, late: end === 'late', fault, say }
}

const COLOUR: Record<AskState, string> = {
  pending: 'text-warn',
  allowed: 'text-success',
  allowed_always: 'text-success',
  answered: 'text-success',
  denied: 'text-danger',
  expired: 'text-warn',
  withdrawn: 'text-text-2',
  over: 'text-text-2',
}

function Glyph({ state }: { state: AskState }) {
  const look = { size: 14, strokeWidth: 1.5, 'aria-hidden': true, className: 'shrink-0' }
  switch (state) {
    case 'pending':
      return <Diamond size={14} />
    case 'denied':
      return <Ban {...look} />
    case 'expired':
      return <Clock {...look} />
    case 'withdrawn':
      return <Undo2 {...look} />
    case 'over':
      return <CircleHelp {...look} />
    default:
      return <Check {...look} />
  }
}

interface CardProps {
  block: Block
  title: string
  asking: Asking
  /** What is asked; always shown. */
  children: ReactNode
  /** How to answer; only while a person is awaited. */
  controls?: ReactNode
}

export function AskCard({ block, title, asking, children, controls }: CardProps) {
  const { t } = useTranslation()
  const card = useRef<HTMLElement>(null)
  const { state, underWay } = standing(block)
  const open = controls !== undefined && state === 'pending' && !asking.over
  const wasOpen = useRef(open)
  useEffect(() => {
    // The pressed button is gone: the focus stays with the card.
    if (wasOpen.current && !open && document.activeElement === document.body) card.current?.focus({ preventScroll: true })
    wasOpen.current = open
  }, [open])
  const word = t(`asks.states.${state}`)
  return (
    <section ref={card} tabIndex={-1} aria-label={title} data-ask={state} className={`my-2 rounded-panel border bg-surface p-3 ${open ? 'border-warn' : 'border-line'}`}>
      <div className="mb-2 flex flex-wrap items-baseline gap-x-3 gap-y-0.5">
        <h3 className="font-semibold">{title}</h3>
        <span role="status" className={`ml-auto flex items-center gap-1 self-center text-meta ${COLOUR[state]}`} title={block.timestamp > 0 ? fullTime(block.timestamp) : undefined}>
          <Glyph state={state} />
          {underWay ? t('asks.states.underWay', { state: word }) : word}
        </span>
      </div>
      {children}
      {asking.late && state === 'pending' && <p role="status" className="mt-2 text-warn">{t('asks.already')}</p>}
      {open && controls}
      {open && typeof block.expires_at === 'string' && <p className="mt-3 text-meta text-text-3">{t('asks.expires', { at: fullTime(block.expires_at) })}</p>}
      {open && asking.fault && <p role="alert" className="mt-2 text-danger">{asking.fault}</p>}
    </section>
  )
}
