import { useQuery, useQueryClient } from '@tanstack/react-query'
import { getRouteApi, useNavigate } from '@tanstack/react-router'
import { Monitor } from 'lucide-react'
import { useEffect, useId, useMemo, useRef, useState } from 'react'
import { useTranslation } from 'react-i18next'
import { ApiError } from '../api/auth'
import { api } from '../api/http'
import type { Meta, Resource } from '../api/types'
import { randomId } from '../parts/ids'
import { Mark } from '../parts/mark'
import { Heading, Skeleton, Trouble } from '../parts/page'
import { complain } from '../parts/toast'
import { draft, dropDraft, setDraft, useDraft } from '../task/drafts'
import { useEnterHint, WriteBox } from '../task/write-box'
import { bytesOf, MESSAGE_BYTES_MAX } from '../task/limits'

const route = getRouteApi('/app/tasks/new')
const LAST_TEAM = 'troupe.team'
const key = 'new'

const teamId = (team: Resource): string =>
  `${team.metadata.namespace ?? 'default'}/${team.metadata.name}`
const isPublic = (team: Resource): boolean => team.metadata.owner === 'public'
const nameOf = (r: Resource): string => r.metadata.displayName ?? r.metadata.name
const strings = (value: unknown): string[] =>
  Array.isArray(value) ? value.filter((x): x is string => typeof x === 'string') : []

export function NewTaskPage() {
  const { t, i18n } = useTranslation()
  const search = route.useSearch()
  const navigate = useNavigate()
  const queries = useQueryClient()
  const teams = useQuery({ queryKey: ['teams'], queryFn: ({ signal }) => api.list('teams', signal) })
  const models = useQuery({ queryKey: ['models'], queryFn: ({ signal }) => api.list('models', signal) })
  const meta = useQuery({
    queryKey: ['meta'],
    queryFn: async () => (await (await fetch('/api/v1/meta')).json()) as Meta,
    staleTime: Infinity,
  })
  const sorted = useMemo(
    () => [...(teams.data?.items ?? [])].sort((a, b) => rank(a) - rank(b) || nameOf(a).localeCompare(nameOf(b))),
    [teams.data],
  )
  const [chosen, setChosen] = useState(() => search.team ?? localStorage.getItem(LAST_TEAM) ?? '')
  const team = sorted.find((x) => teamId(x) === chosen || x.metadata.name === chosen) ?? sorted[0]
  const [model, setModel] = useState('')
  const [busy, setBusy] = useState(false)
  const sending = useRef<{ id: string; text: string; team: string } | null>(null)
  const text = useDraft(key)
  const hint = useEnterHint()
  const modelField = useId()

  useEffect(() => {
    if (search.prompt && draft(key) === '') setDraft(key, search.prompt)
  }, [search.prompt])

  const start = async (): Promise<void> => {
    if (!team || text.trim() === '' || busy || bytesOf(text) > MESSAGE_BYTES_MAX) return
    setBusy(true)
    const id = teamId(team)
    // The same message keeps its id, so that a repeated start is the same Task.
    if (sending.current?.text !== text || sending.current.team !== id) {
      sending.current = { id: randomId(), text, team: id }
    }
    try {
      const ack = await api.create({
        team_id: id,
        message: text,
        client_message_id: sending.current.id,
        force_override_bot_model: model || undefined,
      })
      localStorage.setItem(LAST_TEAM, id)
      dropDraft(key)
      void queries.invalidateQueries({ queryKey: ['tasks'] })
      await navigate({ to: '/tasks/$id', params: { id: ack.task_id } })
    } catch (error) {
      if (error instanceof ApiError && error.problem.status < 500) sending.current = null
      complain(error)
      setBusy(false)
    }
  }

  const placeholder = (team?.spec.inputPlaceholder as Record<string, string> | undefined)?.[i18n.language]
  const phrases = strings(team?.spec.quick_phrases)
  const llms = (models.data?.items ?? []).filter((m) => (m.spec.modelType ?? 'llm') === 'llm')
  const tooLong = bytesOf(text) > MESSAGE_BYTES_MAX
  return (
    <main className="min-h-0 flex-1 overflow-y-auto">
      <div className="mx-auto max-w-[720px] px-4 py-4 md:px-6 md:py-6">
        <Heading>{t('compose.title')}</Heading>
        <div className="well mt-4">
          <WriteBox
            value={text}
            change={(v) => setDraft(key, v)}
            submit={() => void start()}
            label={t('compose.prompt')}
            placeholder={placeholder ?? t('compose.placeholder')}
            lines={4}
            autoFocus
          />
          <div className="flex flex-wrap items-center justify-between gap-2 px-3 pb-3">
            <span className={`text-meta ${tooLong ? 'text-danger' : 'text-text-3'}`}>
              {tooLong ? t('compose.tooLong', { bytes: bytesOf(text) }) : hint}
            </span>
            <button type="button" className="btn btn-primary" disabled={busy || !team || text.trim() === '' || tooLong} onClick={() => void start()}>
              {t(busy ? 'compose.starting' : 'compose.start')}
            </button>
          </div>
        </div>
        {phrases.length > 0 && (
          <div className="mt-3 flex flex-wrap gap-2" role="group" aria-label={t('compose.phrases')}>
            {phrases.map((phrase) => (
              <button key={phrase} type="button" className="btn h-auto min-h-8 py-1 text-left whitespace-normal" onClick={() => setDraft(key, text ? `${text}\n${phrase}` : phrase)}>
                {phrase}
              </button>
            ))}
          </div>
        )}
        {teams.isPending ? (
          <Skeleton rows={4} />
        ) : teams.isError ? (
          <Trouble error={teams.error} retry={() => void teams.refetch()} />
        ) : (
          <fieldset className="mt-6">
            <legend className="mb-2 text-section font-semibold">{t('compose.team')}</legend>
            {sorted.length === 0 && <p className="text-text-2">{t('compose.noTeams')}</p>}
            <div className="grid gap-2 md:grid-cols-2">
              {sorted.map((x) => (
                <TeamChoice key={teamId(x)} team={x} checked={x === team} choose={() => setChosen(teamId(x))} />
              ))}
            </div>
          </fieldset>
        )}
        {llms.length > 0 && (
          <div className="mt-6">
            <label htmlFor={modelField} className="mb-1 block font-medium">
              {t('compose.model')}
            </label>
            <select id={modelField} className="field h-8 max-w-[360px] py-0 max-md:h-11" value={model} onChange={(e) => setModel(e.target.value)}>
              <option value="">{t('compose.botsOwn')}</option>
              {llms.map((m) => (
                <option key={teamId(m)} value={teamId(m)}>
                  {nameOf(m)}
                </option>
              ))}
            </select>
          </div>
        )}
        {meta.data?.demo && <p className="mt-4 text-text-2">{t('compose.demo')}</p>}
      </div>
    </main>
  )
}

/** Own ones first, and those that can run in the node before those that need a device. */
const rank = (team: Resource): number =>
  (isPublic(team) ? 2 : 0) + (team.spec.requiresWorkspace === true ? 1 : 0)

function TeamChoice({ team, checked, choose }: { team: Resource; checked: boolean; choose: () => void }) {
  const { t, i18n } = useTranslation()
  const members = Array.isArray(team.spec.members) ? team.spec.members.length : 0
  const shape = team.spec.collaborationModel
  const model = typeof shape === 'string' ? shape : 'solo'
  const about = typeof team.spec.description === 'string' ? team.spec.description : ''
  return (
    <label className={`flex cursor-pointer flex-col gap-1 rounded-panel border p-3 has-focus-visible:outline-2 has-focus-visible:outline-accent ${checked ? 'border-accent bg-accent-weak' : 'border-line bg-surface hover:border-edge'}`}>
      <span className="flex items-center gap-2">
        <input type="radio" name="team" className="size-4 accent-accent" checked={checked} onChange={choose} />
        <span className="min-w-0 flex-1 truncate font-medium">{nameOf(team)}</span>
        <span className="flex gap-1" aria-hidden>
          {Array.from({ length: Math.min(members, 8) }, (_, i) => (
            <Mark key={i} index={i} size={10} />
          ))}
        </span>
      </span>
      {about && <span className="text-text-2">{about}</span>}
      <span className="flex flex-wrap gap-x-3 text-meta text-text-2">
        <span>{i18n.exists(`team.${model}`) ? t(`team.${model}`) : model}</span>
        {isPublic(team) && <span>{t('compose.public')}</span>}
        {team.spec.requiresWorkspace === true && (
          <span className="inline-flex items-center gap-1 text-warn">
            <Monitor size={12} strokeWidth={1.5} aria-hidden />
            {t('compose.needsDevice')}
          </span>
        )}
      </span>
    </label>
  )
}
