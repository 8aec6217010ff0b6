// Who is logged in. The access token stays in memory; the refresh token is a cookie that no
// script can read, and the proof that goes with it lies in localStorage.

import type { Problem, TokenAnswer, UserView } from './types'
import { randomId } from '../parts/ids'

const PROOF = 'troupe.proof'
const LEASE = 'troupe.refresh.lease'
const LEASE_MS = 8_000

export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail)
  }
}

/** The node cannot be reached. */
export class OfflineError extends Error {}

interface Session {
  token: string
  expiresAt: number
  user: UserView
}

let session: Session | null = null
let refreshing: Promise<boolean> | null = null
const listeners = new Set<() => void>()

function changed(): void {
  listeners.forEach((listener) => listener())
}

export function onAuth(listener: () => void): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export const currentUser = (): UserView | null => session?.user ?? null
export const hasProof = (): boolean => localStorage.getItem(PROOF) !== null

function accept(answer: TokenAnswer): void {
  if (answer.proof) localStorage.setItem(PROOF, answer.proof)
  session = {
    token: answer.access_token,
    expiresAt: Date.now() + answer.expires_in * 1000,
    user: answer.user,
  }
  changed()
}

export function forget(): void {
  session = null
  localStorage.removeItem(PROOF)
  changed()
}

async function ask(path: string, body: unknown): Promise<Response> {
  const headers: Record<string, string> = {
    'content-type': 'application/json',
    'x-troupe-transport': 'cookie',
  }
  const proof = localStorage.getItem(PROOF)
  if (proof) headers['x-troupe-proof'] = proof
  try {
    return await fetch(`/api/v1${path}`, {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
      credentials: 'same-origin',
    })
  } catch (cause) {
    throw new OfflineError('the node cannot be reached', { cause })
  }
}

export async function problemOf(response: Response): Promise<Problem> {
  try {
    const body = (await response.json()) as Partial<Problem>
    return { code: 'unknown', detail: response.statusText, ...body, status: response.status }
  } catch {
    return { status: response.status, code: 'unknown', detail: response.statusText }
  }
}

async function enter(path: string, body: unknown): Promise<void> {
  const response = await ask(path, body)
  if (!response.ok) throw new ApiError(await problemOf(response))
  accept((await response.json()) as TokenAnswer)
}

export const login = (user_name: string, password: string): Promise<void> =>
  enter('/auth/login', { user_name, password, transport: 'cookie' })

export const setup = (token: string, user_name: string, password: string): Promise<void> =>
  enter('/setup', { token, user_name, password })

let leaving = false
/** The end of the session is a person's wish, not the node's. */
export const isLeaving = (): boolean => leaving

/** By a person: what they typed and did not send goes too. */
export async function logout(): Promise<void> {
  const id = session?.user.id
  await ask('/auth/logout', {}).catch(() => undefined)
  leaving = true
  forget()
  leaving = false
  for (const key of Object.keys(localStorage)) {
    if (key === `troupe.drafts.${id}` || key.startsWith(`troupe.outbox.${id}.`)) localStorage.removeItem(key)
  }
}

/** A fresh session. False: log in again. Throws `OfflineError` without an answer. */
export function refresh(): Promise<boolean> {
  refreshing ??= leased(doRefresh).finally(() => {
    refreshing = null
  })
  return refreshing
}

async function doRefresh(): Promise<boolean> {
  if (!hasProof()) return false
  const response = await ask('/auth/refresh', {})
  if (response.ok) {
    accept((await response.json()) as TokenAnswer)
    return true
  }
  if (response.status === 401 || response.status === 403) {
    forget()
    return false
  }
  throw new OfflineError(`refresh answered ${response.status}`)
}

/** One tab at a time: `navigator.locks` where there is one, else a lease in localStorage. */
async function leased(work: () => Promise<boolean>): Promise<boolean> {
  const locks = (navigator as { locks?: LockManager }).locks
  if (locks) return await locks.request<Promise<boolean>>(LEASE, work)
  const mine = randomId()
  const until = Date.now() + LEASE_MS
  for (;;) {
    const [owner, end] = (localStorage.getItem(LEASE) ?? '').split(' ')
    if (!owner || owner === mine || Number(end) < Date.now() || Date.now() > until) break
    await new Promise((done) => setTimeout(done, 100))
  }
  localStorage.setItem(LEASE, `${mine} ${Date.now() + LEASE_MS}`)
  try {
    return await work()
  } finally {
    if (localStorage.getItem(LEASE)?.startsWith(mine)) localStorage.removeItem(LEASE)
  }
}

/** A token that holds for at least `ms` more; null: nobody is logged in. */
export async function token(ms = 20_000): Promise<string | null> {
  if (session && session.expiresAt - Date.now() > ms) return session.token
  return (await refresh()) ? (session?.token ?? null) : null
}

/** Milliseconds until the access token should be replaced. */
export const refreshIn = (): number =>
  session ? Math.max(1_000, session.expiresAt - Date.now() - 60_000) : 60_000
