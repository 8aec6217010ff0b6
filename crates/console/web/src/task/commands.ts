// What keys and the palette can do with an open Task.

import type { RefObject } from 'react'
import { useTranslation } from 'react-i18next'
import { useNavigate } from '@tanstack/react-router'
import { currentUser } from '../api/auth'
import { useCommands } from '../app/commands'
import type { Command } from '../app/commands'
import { copyText } from '../parts/ids'
import { complain, toast } from '../parts/toast'
import type { TaskSession } from './session'
import type { TranscriptHandle } from './transcript'
import type { WriteBoxHandle } from './write-box'

const ACTIVE = ['RUNNING', 'PENDING', 'CANCELLING']

interface Of {
  session: TaskSession
  box: RefObject<WriteBoxHandle | null>
  list: RefObject<TranscriptHandle | null>
  edit: (subtask: string) => void
  retry: (subtask: string) => void
}

export function useTaskCommands({ session, box, list, edit, retry }: Of): void {
  const { t } = useTranslation()
  const navigate = useNavigate()
  const { store } = session
  const active = ACTIVE.includes(store.task?.status ?? '')
  const page = (id: string, label: string, run: () => void, more: Partial<Command> = {}): Command => ({ id, label, group: 'page', run, ...more })

  /** The message that has the focus, or the last one that fits. */
  const target = (fits: (kind: string, status: string) => boolean): string | undefined => {
    const at = list.current?.focused()?.row
    const rows = at ? [at] : store.messages()
    return rows.findLast((r) => fits(r.view.kind, r.view.status))?.view.subtask_id
  }
  const editOne = (): void => {
    const mine = target((kind) => kind === 'user')
    const row = mine ? store.row(mine) : undefined
    if (row?.view.sender.type === 'USER' && row.view.sender.user_id === currentUser()?.id) edit(mine!)
  }
  const retryOne = (): void => {
    const row = store.messages().at(-1)
    const failed = target((_, status) => status === 'FAILED' || status === 'CANCELLED')
    if (failed && failed === row?.view.subtask_id) retry(failed)
  }
  const copyId = async (): Promise<void> => {
    const done = await copyText(session.id)
    toast(t(done ? 'app.copied' : 'app.copyFailed'), !done)
  }

  useCommands(
    store.log === ''
      ? []
      : [
          page('write', t('keys.write'), () => box.current?.focus(), { keys: 'm', cli: `troupe send ${session.id}` }),
          ...(active ? [page('stop', t('task.stop'), () => session.stop().catch(complain), { keys: 'mod+.', cli: `troupe cancel ${session.id}` })] : []),
          ...(active
            ? []
            : [
                page('retry', t('task.retry'), retryOne, { keys: 'r', cli: `troupe retry ${session.id}` }),
                page('edit', t('task.editOwn'), editOne, { keys: 'e' }),
              ]),
          page('next', t('keys.next'), () => list.current?.step(1), { keys: 'j', quiet: true }),
          page('previous', t('keys.previous'), () => list.current?.step(-1), { keys: 'k', quiet: true }),
          page('open', t('keys.open'), () => list.current?.toggle(), { keys: 'o', quiet: true }),
          page('follow', t('keys.follow'), () => list.current?.follow(), { keys: 'f', cli: `troupe attach ${session.id}` }),
          page('plain', t('task.plain'), () => void navigate({ to: '/tasks/$id/plain', params: { id: session.id } })),
          page('copy', t('task.copyId'), () => void copyId()),
        ],
  )
}
