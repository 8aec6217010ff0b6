// Keys that act on every page, and the windows they open.

import { useNavigate } from '@tanstack/react-router'
import { lazy, Suspense, useCallback, useEffect, useMemo, useRef, useState } from 'react'
import { useTranslation } from 'react-i18next'
import { currentUser } from '../api/auth'
import { allCommands, isTyping, match, SEQUENCE_MS, useCommands, written } from './commands'
import type { Command } from './commands'
import { Keys } from './keycap'
import { pref } from './prefs'

const loadPalette = () => import('./palette')
const Palette = lazy(() => loadPalette().then((m) => ({ default: m.Palette })))
const Help = lazy(() => import('./help').then((m) => ({ default: m.Help })))

const PRELOAD_MS = 2_000
const OPEN = 'troupe:open'
type Window = 'palette' | 'help'

export const openPalette = (): void => void dispatchEvent(new CustomEvent(OPEN, { detail: 'palette' }))
export const openHelp = (): void => void dispatchEvent(new CustomEvent(OPEN, { detail: 'help' }))

/** A dialog or menu has the keyboard. */
const isBusy = (): boolean => document.querySelector('[role=dialog], [role=alertdialog], [role=menu]') !== null

function useGoing(): Command[] {
  const { t } = useTranslation()
  const navigate = useNavigate()
  return useMemo<Command[]>(
    () => [
      { id: 'inbox', group: 'go', keys: 'g i', label: t('nav.inbox'), cli: 'troupe asks', run: () => void navigate({ to: '/inbox' }) },
      { id: 'tasks', group: 'go', keys: 'g t', label: t('nav.tasks'), cli: 'troupe ls', run: () => void navigate({ to: '/tasks', search: {} }) },
      { id: 'new', group: 'go', keys: 'c', label: t('nav.newTask'), cli: 'troupe run', run: () => void navigate({ to: '/tasks/new', search: {} }) },
      { id: 'devices', group: 'go', keys: 'g d', label: t('nav.devices'), cli: 'troupe device ls', run: () => void navigate({ to: '/devices' }) },
      { id: 'teams', group: 'go', keys: 'g e', label: `${t('nav.resources')}: Teams`, cli: 'troupe get teams', run: () => void navigate({ to: '/resources/$kind', params: { kind: 'teams' } }) },
      ...['Bots', 'Ghosts', 'Models', 'Shells'].map((kind) => ({
        id: kind,
        group: 'go' as const,
        label: `${t('nav.resources')}: ${kind}`,
        cli: `troupe get ${kind.toLowerCase()}`,
        run: () => void navigate({ to: '/resources/$kind', params: { kind: kind.toLowerCase() } }),
      })),
      ...(currentUser()?.role === 'admin'
        ? [{ id: 'cluster', group: 'go' as const, keys: 'g o', label: t('nav.cluster'), cli: 'troupe admin nodes', run: () => void navigate({ to: '/ops/cluster' }) }]
        : []),
      { id: 'help', group: 'go', keys: '?', label: t('keys.title'), run: openHelp },
    ],
    [t, navigate],
  )
}

/** Listens to keys; shows palette, help, and what may follow the first key of two. */
export function KeyBoard() {
  const [open, setOpen] = useState<Window | null>(null)
  const [begun, setBegun] = useState<string | null>(null)
  const first = useRef<{ key: string; at: number } | null>(null)
  const awaited = useRef(false)
  const early = useRef('')
  useCommands(useGoing())
  useEffect(() => {
    // So that it is there when it is asked for.
    const timer = setTimeout(() => void loadPalette().catch(() => undefined), PRELOAD_MS)
    return () => clearTimeout(timer)
  }, [])
  const show = useCallback((window: Window | null): void => {
    awaited.current = window === 'palette'
    early.current = ''
    setOpen(window)
  }, [])
  const close = useCallback(() => show(null), [show])
  useEffect(() => {
    const asked = (e: Event): void => show((e as CustomEvent<Window>).detail)
    addEventListener(OPEN, asked)
    return () => removeEventListener(OPEN, asked)
  }, [show])
  useEffect(() => {
    const handler = (e: KeyboardEvent): void => {
      const press = written(e)
      if (press === 'mod+k') {
        e.preventDefault()
        return show(awaited.current ? null : 'palette')
      }
      // What is typed while the palette is on its way is meant for it.
      if (awaited.current && !document.activeElement?.matches('[cmdk-input]')) {
        if (press !== null && !press.startsWith('mod+')) {
          e.preventDefault()
          early.current += e.key
        }
        return
      }
      if (press === null || e.defaultPrevented || isBusy()) return
      if (isTyping(e.target) && !press.startsWith('mod+')) return
      const before = first.current && e.timeStamp - first.current.at < SEQUENCE_MS ? first.current.key : null
      first.current = null
      setBegun(null)
      const found = match(allCommands(), press, before, pref('letters'))
      if (!found) return
      e.preventDefault()
      if ('run' in found) return found.run.run()
      first.current = { key: found.begins, at: e.timeStamp }
      setBegun(found.begins)
    }
    addEventListener('keydown', handler)
    return () => removeEventListener('keydown', handler)
  }, [show])
  useEffect(() => {
    if (begun === null) return
    const timer = setTimeout(() => setBegun(null), SEQUENCE_MS)
    return () => clearTimeout(timer)
  }, [begun])
  return (
    <>
      {begun !== null && <Hint begun={begun} />}
      <Suspense>
        {open === 'palette' && <Palette early={early} close={close} />}
        {open === 'help' && <Help close={close} />}
      </Suspense>
    </>
  )
}

function Hint({ begun }: { begun: string }) {
  const next = allCommands().filter((c) => c.keys?.startsWith(`${begun} `))
  return (
    <div role="status" className="fixed bottom-4 left-1/2 z-40 flex max-w-[92vw] -translate-x-1/2 flex-wrap gap-4 rounded-panel border border-line bg-surface px-4 py-2 shadow-pop">
      {next.map((c) => (
        <span key={c.id} className="flex items-center gap-2">
          <Keys keys={c.keys!} />
          {c.label}
        </span>
      ))}
    </div>
  )
}
