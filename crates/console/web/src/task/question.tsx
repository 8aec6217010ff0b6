import { useId } from 'react'
import { useTranslation } from 'react-i18next'
import type { Block } from '../api/types'
import { answerTo, NOTHING, pressed, questionsOf } from './ask'
import type { AskedQuestion, Choice } from './ask'
import { AskCard, useAsking } from './ask-card'
import { dropDraft, setDraft, useDraft } from './drafts'
import { useTask } from './hooks'

type Choices = Record<string, Choice | undefined>

function parsed(draft: string): Choices {
  try {
    return JSON.parse(draft || '{}') as Choices
  } catch {
    return {}
  }
}

/** An agent asks for an answer, with choices or without. */
export function Question({ block, live = false }: { block: Block; live?: boolean }) {
  const { t } = useTranslation()
  const questions = questionsOf(block)
  const title = t('asks.question')
  const asking = useAsking(block, live, questions[0]?.text ?? title)
  // What was chosen is a draft too: it survives a reload and a scroll.
  const draftKey = `ask.${useTask()}.${block.id}`
  const choices = parsed(useDraft(draftKey))
  const open = live && block.status === 'pending' && !asking.over
  const change = (id: string, choice: Choice): void => setDraft(draftKey, JSON.stringify({ ...choices, [id]: choice }))
  const answers = questions.map((q) => [q.id, answerTo(q, choices[q.id] ?? NOTHING)] as const)
  const whole = answers.every(([, answer]) => answer !== null)
  const send = async (): Promise<void> => {
    if (!whole) return
    const done = await asking.say({ answer: 'reply', answers: Object.fromEntries(answers) as Record<string, string[]> })
    if (done) dropDraft(draftKey)
  }
  return (
    <AskCard
      block={block}
      title={title}
      asking={asking}
      controls={
        live ? (
          <button type="submit" form={draftKey} className="btn btn-primary mt-3" disabled={asking.busy || !whole} aria-disabled={asking.calm}>
            {t('asks.send')}
          </button>
        ) : undefined
      }
    >
      <form
        id={draftKey}
        className="flex flex-col gap-4"
        onSubmit={(e) => {
          e.preventDefault()
          void send()
        }}
      >
        {questions.map((q) => (
          <One key={q.id} question={q} choice={choices[q.id] ?? NOTHING} open={open} busy={asking.busy} change={(choice) => change(q.id, choice)} />
        ))}
      </form>
    </AskCard>
  )
}

interface OneProps {
  question: AskedQuestion
  choice: Choice
  open: boolean
  busy: boolean
  change: (choice: Choice) => void
}

function One({ question, choice, open, busy, change }: OneProps) {
  const { t } = useTranslation()
  const name = useId()
  const { options, multiple } = question
  const type = multiple ? 'checkbox' : 'radio'
  const writes = choice.own || options.length === 0
  return (
    <fieldset className="min-w-0" disabled={busy}>
      <legend className="mb-1">
        {question.header && <span className="block text-meta text-text-3">{question.header}</span>}
        <span className="text-read">{question.text}</span>
        {multiple && open && <span className="block text-meta text-text-3">{t('asks.several')}</span>}
      </legend>
      {!open && options.length > 0 && (
        <ul className="list-disc pl-5 text-text-2">
          {options.map((o) => (
            <li key={o.label}>{o.label}</li>
          ))}
        </ul>
      )}
      {open &&
        options.map((o) => (
          <label key={o.label} className="flex min-h-8 cursor-pointer items-start gap-2 rounded-control px-1 py-1 hover:bg-sunken max-md:min-h-11">
            <input type={type} name={name} className="mt-0.5 size-4 shrink-0 accent-(--accent)" checked={choice.chosen.includes(o.label) && (multiple || !choice.own)} onChange={() => change(pressed(choice, o.label, multiple))} />
            <span className="min-w-0">
              <span className="font-medium">{o.label}</span>
              {o.description && <span className="block text-text-2">{o.description}</span>}
            </span>
          </label>
        ))}
      {open && options.length > 0 && (
        <label className="flex min-h-8 cursor-pointer items-start gap-2 rounded-control px-1 py-1 hover:bg-sunken max-md:min-h-11">
          <input type={type} name={name} className="mt-0.5 size-4 shrink-0 accent-(--accent)" checked={choice.own} onChange={() => change({ ...choice, own: multiple ? !choice.own : true, chosen: multiple ? choice.chosen : [] })} />
          <span className="font-medium">{t('asks.other')}</span>
        </label>
      )}
      {open && writes && (
        <textarea
          className="field mt-1"
          rows={2}
          maxLength={8_000}
          autoFocus={choice.own}
          aria-label={t('asks.otherLabel', { question: question.text })}
          value={choice.text}
          onChange={(e) => change({ ...choice, text: e.target.value })}
        />
      )}
    </fieldset>
  )
}
