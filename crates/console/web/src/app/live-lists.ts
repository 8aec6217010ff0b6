// Lists follow what the node tells this person's room, and are read again after a cut.

import { useQueryClient } from '@tanstack/react-query'
import { useEffect } from 'react'
import { link } from '../api/socket'
import { currentUser } from '../api/auth'

const QUIET_MS = 250

export function useLiveLists(): void {
  const queries = useQueryClient()
  useEffect(() => {
    if (!currentUser()) return
    const socket = link()
    let timer: ReturnType<typeof setTimeout> | null = null
    const stale = (): void => {
      timer ??= setTimeout(() => {
        timer = null
        void queries.invalidateQueries({ queryKey: ['tasks'] })
      }, QUIET_MS)
    }
    const events = ['task:created', 'task:status', 'task:deleted', 'connect']
    events.forEach((event) => socket.on(event, stale))
    return () => {
      if (timer) clearTimeout(timer)
      events.forEach((event) => socket.off(event, stale))
    }
  }, [queries])
}
