// Calls of the REST surface.

import { ApiError, forget, OfflineError, problemOf, refresh, token } from './auth'
import type { JoinAnswer, OpenAsks, Page, Resource, ResourceList, SendAck, TaskLite, TaskView, TurnsPage } from './types'

export interface CallOptions {
  method?: string
  body?: unknown
  /** Sent as it is, with this type. */
  raw?: { text: string; type: string }
  signal?: AbortSignal
}

export async function call<T>(path: string, options: CallOptions = {}): Promise<T> {
  let bearer = await token()
  for (let tries = 0; ; tries++) {
    const response = await send(path, options, bearer)
    if (response.status === 401 && tries === 0) {
      if (await refresh()) {
        bearer = await token(0)
        continue
      }
    }
    if (response.status === 401) forget()
    if (!response.ok) throw new ApiError(await problemOf(response))
    if (response.status === 204) return undefined as T
    return (await response.json()) as T
  }
}

async function send(path: string, o: CallOptions, bearer: string | null): Promise<Response> {
  const headers: Record<string, string> = {}
  if (bearer) headers.authorization = `Bearer ${bearer}`
  if (o.raw) headers['content-type'] = o.raw.type
  else if (o.body !== undefined) headers['content-type'] = 'application/json'
  try {
    return await fetch(`/api/v1${path}`, {
      method: o.method ?? 'GET',
      headers,
      body: o.raw ? o.raw.text : o.body === undefined ? undefined : JSON.stringify(o.body),
      signal: o.signal,
    })
  } catch (cause) {
    if (o.signal?.aborted) throw cause
    throw new OfflineError('the node cannot be reached', { cause })
  }
}

const query = (values: Record<string, string | number | undefined>): string => {
  const search = new URLSearchParams()
  for (const [key, value] of Object.entries(values)) {
    if (value !== undefined && value !== '') search.set(key, String(value))
  }
  const text = search.toString()
  return text ? `?${text}` : ''
}

export interface NewTask {
  team_id: string
  message: string
  client_message_id: string
  force_override_bot_model?: string
}

/** What a person says to an approval or a question. */
export interface BlockAnswer {
  block_id: string
  answer: 'allow' | 'allow_always' | 'deny' | 'reply'
  message?: string
  answers?: Record<string, string[]>
  client_message_id: string
}

export const api = {
  tasks: (o: { status?: string; text?: string; asks?: 'true'; cursor?: string; limit?: number }, signal?: AbortSignal) =>
    call<Page<TaskLite>>(`/tasks${query(o)}`, { signal }),
  asks: (signal?: AbortSignal) => call<OpenAsks>('/asks', { signal }),
  task: (id: string) => call<TaskView>(`/tasks/${id}`),
  create: (body: NewTask) => call<SendAck>('/tasks', { method: 'POST', body }),
  rename: (id: string, title: string) =>
    call<TaskView>(`/tasks/${id}`, { method: 'PATCH', body: { title } }),
  remove: (id: string) => call<void>(`/tasks/${id}`, { method: 'DELETE' }),
  answer: (id: string, body: BlockAnswer) => call<void>(`/tasks/${id}/answer`, { method: 'POST', body }),
  join: (id: string) => call<JoinAnswer>(`/tasks/${id}/join`),
  turns: (id: string, before: string) =>
    call<TurnsPage>(`/tasks/${id}/turns${query({ before, limit: 20 })}`),
  list: (plural: string, signal?: AbortSignal) => call<ResourceList>(`/${plural}`, { signal }),
  team: (namespace: string, name: string) =>
    call<Resource>(`/namespaces/${encodeURIComponent(namespace)}/teams/${encodeURIComponent(name)}`),
  apply: (text: string, dryRun: boolean) =>
    call<ApplyAnswer>(`/apply${query({ 'dry-run': dryRun ? 'true' : undefined })}`, {
      method: 'POST',
      raw: { text, type: 'application/yaml' },
    }),
  instantiate: (namespace: string, name: string, dryRun: boolean) =>
    call<ApplyAnswer>(
      `/namespaces/${encodeURIComponent(namespace)}/templates/${encodeURIComponent(name)}/instantiate${query({ 'dry-run': dryRun ? 'true' : undefined })}`,
      { method: 'POST' },
    ),
}

export interface ApplyAnswer {
  success: boolean
  dryRun?: boolean
  results: { kind: string; name: string; namespace: string; operation: string; success: boolean }[]
  warnings?: { path: string; message: string }[]
}
