// Lists follow what the node tells this person's room, and are read again after a cut.

import { useQuery, useQueryClient } from '@tanstack/react-query'
import { useEffect } from 'react'
import { link } from '../api/socket'
import { currentUser } from '../api/auth'
import { api } from '../api/http'

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
        void queries.invalidateQueries({ queryKey: ['asks'] })
      }, QUIET_MS)
    }
    const events = ['task:created', 'task:status', 'task:asks', 'task:deleted', 'connect']
    events.forEach((event) => socket.on(event, stale))
    return () => {
      if (timer) clearTimeout(timer)
      events.forEach((event) => socket.off(event, stale))
    }
  }, [queries])
}

/** Approvals and questions that wait, over all Tasks. */
export function useAskCount(enabled: boolean): number {
  const list = useQuery({
    queryKey: ['asks', 'count'],
    queryFn: ({ signal }) => api.tasks({ asks: 'true', limit: 100 }, signal),
    select: (page) => page.items.reduce((sum, task) => sum + (task.asks ?? 0), 0),
    enabled,
  })
  return list.data ?? 0
}
