// The one socket of a tab: connected while somebody is logged in.

import { io } from 'socket.io-client'
import type { Socket } from 'socket.io-client'
import { forget, onAuth, currentUser, refresh, refreshIn, token } from './auth'
import { ApiError } from './auth'
import type { Problem } from './types'

export interface LinkState {
  up: boolean
  /** When the link was lost; null while it is there or was never. */
  lostAt: number | null
  everUp: boolean
}

let socket: Socket | null = null
let state: LinkState = { up: false, lostAt: null, everUp: false }
let timer: ReturnType<typeof setTimeout> | null = null
const listeners = new Set<() => void>()

export const linkState = (): LinkState => state

export function onLink(listener: () => void): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

function set(next: Partial<LinkState>): void {
  state = { ...state, ...next }
  listeners.forEach((listener) => listener())
}

export function link(): Socket {
  if (socket) return socket
  const made = io('/chat', {
    path: '/socket.io',
    transports: ['websocket', 'polling'],
    autoConnect: false,
    reconnectionDelay: 300,
    reconnectionDelayMax: 4_000,
    randomizationFactor: 0.4,
    timeout: 8_000,
    auth: (give) => {
      token()
        .then((t) => give({ token: t ?? '' }))
        .catch(() => give({ token: '' }))
    },
  })
  made.on('connect', () => set({ up: true, lostAt: null, everUp: true }))
  made.on('disconnect', (reason) => {
    set({ up: false, lostAt: Date.now() })
    if (reason === 'io server disconnect') again(made)
  })
  made.on('connect_error', (error) => {
    if (state.lostAt === null) set({ up: false, lostAt: Date.now() })
    // Refused by the node itself: socket.io does not try again then.
    if (!made.active || /auth|token|unauthor/i.test(error.message)) again(made)
  })
  made.on('auth:error', () => void renew(made))
  socket = made
  plan()
  made.connect()
  return made
}

/** The node closed it: perhaps the token ended, perhaps the session. */
function again(made: Socket): void {
  setTimeout(() => {
    if (made !== socket || made.connected) return
    refresh()
      .then((ok) => {
        if (ok && made === socket) made.connect()
      })
      .catch(() => again(made))
  }, 800)
}

async function renew(made: Socket): Promise<void> {
  try {
    if (!(await refresh())) return forget()
    const t = await token(0)
    if (made.connected && t) made.emit('auth:refresh', { token: t })
  } catch {
    // Offline: the next try comes with the reconnection.
  }
  plan()
}

function plan(): void {
  if (timer) clearTimeout(timer)
  timer = setTimeout(() => {
    if (socket) void renew(socket)
  }, refreshIn())
}

export function retryNow(): void {
  if (socket && !socket.connected) {
    socket.disconnect()
    socket.connect()
  }
}

onAuth(() => {
  if (currentUser()) return
  if (timer) clearTimeout(timer)
  socket?.disconnect()
  socket = null
  set({ up: false, lostAt: null, everUp: false })
})

/** Calls with an answer. Rejects with `ApiError`, or a plain error without an answer. */
export function request<T>(event: string, payload: unknown, timeoutMs = 10_000): Promise<T> {
  const made = link()
  return new Promise<T>((resolve, reject) => {
    made.timeout(timeoutMs).emit(event, payload, (late: Error | null, answer: unknown) => {
      if (late) return reject(late)
      const refused = answer as { error?: string; code?: string; problem?: Problem } | undefined
      if (refused?.error) {
        const detail = refused.error
        const code = refused.code ?? 'unknown'
        return reject(new ApiError(refused.problem ?? { status: 400, code, detail }))
      }
      resolve(answer as T)
    })
  })
}
