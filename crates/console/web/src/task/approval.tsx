import { useId, useState } from 'react'
import { useTranslation } from 'react-i18next'
import type { Block } from '../api/types'
import { CodeBlock } from '../parts/code'
import { useActions } from './actions'
import { grantOf, shownInput, textOf } from './ask'
import { AskCard, useAsking } from './ask-card'
import type { Asking } from './ask-card'
import { PatchLines } from './diff'
import { dropDraft, setDraft, useDraft } from './drafts'
import { useTask } from './hooks'

/** An agent asks whether it may. */
export function Approval({ block, live = false }: { block: Block; live?: boolean }) {
  const { t } = useTranslation()
  const tool = block.tool_name ?? t('block.tool')
  const title = textOf(block.title)
  const asking = useAsking(block, live, title || tool)
  const { note, code, language, rest } = shownInput(block.tool_input, title)
  // Some runtimes say the same thing thrice.
  const reason = textOf(block.reason)
  const says = reason !== '' && reason !== note && !title.endsWith(reason)
  // A command is its own title.
  const said = title !== '' && title !== code.trim()
  return (
    <AskCard block={block} title={t('asks.wants', { tool })} asking={asking} controls={live ? <Controls block={block} asking={asking} /> : undefined}>
      {said && <p className="mb-1 font-mono">{title}</p>}
      {note && note !== title && <p className="mb-1 text-text-2">{note}</p>}
      {says && <p className="mb-1 text-text-2">{t('asks.reason', { text: reason })}</p>}
      <div className="max-h-96 overflow-y-auto">
        {language === 'diff' ? <PatchLines patch={code} /> : <CodeBlock info={language} code={code} whole />}
      </div>
      {rest && (
        <details className="mt-1">
          <summary className="flex min-h-6 cursor-pointer items-center text-text-2">{t('asks.rest')}</summary>
          <CodeBlock info="json" code={rest} />
        </details>
      )}
    </AskCard>
  )
}

function Controls({ block, asking }: { block: Block; asking: Asking }) {
  const { t } = useTranslation()
  const actions = useActions()
  const [writes, setWrites] = useState(false)
  const field = useId()
  const grant = grantOf(block)
  const { busy, calm, say } = asking
  const draftKey = `deny.${useTask()}.${block.id}`
  const message = useDraft(draftKey)
  const press = (said: Parameters<typeof say>[0]) => () => void say(said)
  const denyWith = async (): Promise<void> => {
    if (await say({ answer: 'deny', message: message.trim() })) dropDraft(draftKey)
  }
  return (
    <div className="mt-3">
      <div className="flex flex-wrap gap-x-6 gap-y-3">
        <button type="button" className="btn btn-primary" disabled={busy} aria-disabled={calm} onClick={press({ answer: 'allow' })}>
          {t('asks.allow')}
        </button>
        {grant && (
          <button type="button" className="btn h-auto min-h-8 py-1 whitespace-normal max-md:min-h-11" disabled={busy} aria-disabled={calm} onClick={press({ answer: 'allow_always' })}>
            {grant.command ? t('asks.alwaysCommand') : t('asks.alwaysTool', { tool: grant.tool })}
          </button>
        )}
        <button type="button" className="btn" disabled={busy} aria-disabled={calm} onClick={press({ answer: 'deny' })}>
          {t('asks.deny')}
        </button>
        <button
          type="button"
          className="btn btn-quiet"
          disabled={busy}
          aria-expanded={writes}
          onClick={() => {
            actions.opened()
            setWrites(!writes)
          }}
        >
          {t('asks.denyWith')}
        </button>
      </div>
      {writes && (
        <form
          className="mt-3"
          onSubmit={(e) => {
            e.preventDefault()
            void denyWith()
          }}
        >
          <label htmlFor={field} className="mb-1 block text-meta text-text-3">
            {t('asks.denyMessage')}
          </label>
          <textarea id={field} className="field mb-2" rows={3} maxLength={8_000} autoFocus value={message} disabled={busy} onChange={(e) => setDraft(draftKey, e.target.value)} />
          <button type="submit" className="btn" disabled={busy || message.trim() === ''}>
            {t('asks.deny')}
          </button>
        </form>
      )}
    </div>
  )
}
