// Go somewhere, do something here, find a Task: all by typing.

import { useQuery } from '@tanstack/react-query'
import { useNavigate } from '@tanstack/react-router'
import { Command as List } from 'cmdk'
import { Dialog } from 'radix-ui'
import { useEffect, useState } from 'react'
import type { RefObject } from 'react'
import { useTranslation } from 'react-i18next'
import { api } from '../api/http'
import { State } from '../parts/state'
import { allCommands } from './commands'
import type { Command } from './commands'
import { Keys } from './keycap'
import { score } from './search-words'

const ROW =
  'flex min-h-9 cursor-pointer items-center gap-3 rounded-control px-3 py-1 data-[selected=true]:bg-accent-weak max-md:min-h-12'
const QUIET_MS = 150

function useLate(text: string): string {
  const [late, setLate] = useState(text)
  useEffect(() => {
    const timer = setTimeout(() => setLate(text), QUIET_MS)
    return () => clearTimeout(timer)
  }, [text])
  return late
}

interface PaletteProps {
  /** What was typed before it was there; taken once. */
  early: RefObject<string>
  close: () => void
}

export function Palette({ early, close }: PaletteProps) {
  const { t } = useTranslation()
  const navigate = useNavigate()
  const [typed, setTyped] = useState('')
  const [commands] = useState(allCommands)
  /** The row that Enter means; the first one until a person chose another. */
  const [at, setAt] = useState('')
  const only = typed.startsWith('>')
  const search = (only ? typed.slice(1) : typed).trim()
  const late = useLate(only ? '' : search)
  const tasks = useQuery({
    queryKey: ['tasks', 'palette', late],
    queryFn: ({ signal }) => api.tasks({ text: late || undefined, limit: 6 }, signal),
    enabled: !only,
    placeholderData: (before) => before,
  })
  const found = commands.filter((c) => (search === '' ? !c.quiet : score(wordsOf(c), search) > 0))
  const run = (c: Command): void => {
    close()
    // After the window gave the focus back.
    setTimeout(c.run)
  }
  const open = (id: string): void => {
    close()
    void navigate({ to: '/tasks/$id', params: { id } })
  }
  const of = (group: Command['group']): Command[] =>
    found.filter((c) => c.group === group).sort((a, b) => score(wordsOf(b), search) - score(wordsOf(a), search))
  const here = of('page')
  const going = of('go')
  const items = only ? [] : (tasks.data?.items ?? [])
  const values = [...[...here, ...going].map(valueOf), ...items.map((task) => task.id)]
  return (
    <Dialog.Root open onOpenChange={(is) => !is && close()}>
      <Dialog.Portal>
        <Dialog.Overlay className="fixed inset-0 z-40 bg-[rgb(0_0_0/30%)]" />
        <Dialog.Content
          aria-describedby={undefined}
          className="fixed top-[12vh] left-1/2 z-50 w-[min(94vw,600px)] -translate-x-1/2 overflow-hidden rounded-dialog border border-line bg-surface shadow-pop max-md:top-2"
        >
          <Dialog.Title className="sr-only">{t('palette.title')}</Dialog.Title>
          <List shouldFilter={false} label={t('palette.title')} loop value={values.includes(at) ? at : (values[0] ?? '')} onValueChange={setAt}>
            <List.Input
              value={typed}
              onFocus={() => {
                const text = early.current
                early.current = ''
                setTyped((before) => before + text)
              }}
              onValueChange={(text) => {
                setTyped(text)
                setAt('')
              }}
              placeholder={t('palette.placeholder')}
              className="h-12 w-full border-b border-line bg-transparent px-4 text-read outline-none placeholder:text-text-3"
            />
            <List.List className="max-h-[min(60vh,420px)] overflow-y-auto p-1.5" label={t('palette.results')}>
              <List.Empty className="px-3 py-4 text-text-3">{t('palette.nothing', { text: search })}</List.Empty>
              <Group name={t('palette.page')} commands={here} run={run} />
              <Group name={t('palette.go')} commands={going} run={run} />
              {items.length > 0 && (
                <List.Group heading={<Heading text={t('nav.tasks')} />}>
                  {items.map((task) => (
                    <List.Item key={task.id} value={task.id} className={ROW} onSelect={() => open(task.id)}>
                      <State status={task.status} compact />
                      <span className="min-w-0 flex-1 truncate">{task.title}</span>
                      <span className="truncate text-meta text-text-2">{task.team_name}</span>
                    </List.Item>
                  ))}
                </List.Group>
              )}
            </List.List>
          </List>
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  )
}

const valueOf = (c: Command): string => `${c.group} ${c.id}`
const wordsOf = (c: Command): string => `${c.label} ${c.cli ?? ''}`

function Heading({ text }: { text: string }) {
  return <span className="block px-3 pt-2 pb-1 text-meta text-text-3">{text}</span>
}

function Group({ name, commands, run }: { name: string; commands: Command[]; run: (c: Command) => void }) {
  if (commands.length === 0) return null
  return (
    <List.Group heading={<Heading text={name} />}>
      {commands.map((c) => (
        <List.Item key={c.id} value={valueOf(c)} className={ROW} onSelect={() => run(c)}>
          <span className="min-w-0 flex-1 truncate">{c.label}</span>
          {c.cli && <code className="truncate font-mono text-meta text-text-2 max-md:hidden">{c.cli}</code>}
          {c.keys && <Keys keys={c.keys} />}
        </List.Item>
      ))}
    </List.Group>
  )
}
