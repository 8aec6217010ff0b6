// Machines that a person has enrolled.

import { call } from './http'

export type Presence = 'online' | 'away' | 'offline' | 'revoked'

export interface DeviceTool {
  name: string
  version: string
}

export interface DeviceWork {
  task_id: string
  execution: string
  attempt: number
  /** The device has it on its disk. */
  taken: boolean
  since: string
}

export interface DevicePath {
  carrier: 'quic' | 'websocket' | 'memory'
  /** There and back, in microseconds. */
  rtt_us?: number
}

export interface DeviceView {
  id: string
  name: string
  alias: string
  status: Presence
  draining: boolean
  is_default: boolean
  labels: Record<string, string>
  slots: number
  slots_used: number
  /** In line for a slot; nodes of before say nothing of it. */
  queued?: number
  os: string
  arch: string
  host: string
  build: string
  tools: DeviceTool[]
  node?: string
  /** A few seconds old at most; there while it is linked. */
  path?: DevicePath
  /** The last 24 hours, oldest first, as far as is known; older nodes do not tell. */
  links?: LinkSpan[]
  enrolled_at: string
  /** It is a container: the Task that it works for. */
  task_id?: string
  work: DeviceWork[]
}

/** A time in which a device was linked; without an end it holds. */
export interface LinkSpan {
  from: string
  to?: string
}

export interface DevicePatch {
  alias?: string
  labels?: Record<string, string>
  slots?: number
  draining?: boolean
  is_default?: boolean
}

export interface Invitation {
  id: string
  url: string
  expires_at: string
}

export interface InvitationView {
  expires_at: string
  device?: DeviceView
}

const at = (id: string): string => `/devices/${encodeURIComponent(id)}`

export const devices = {
  list: (signal?: AbortSignal) => call<{ total: number; items: DeviceView[] }>('/devices', { signal }),
  one: (id: string, signal?: AbortSignal) => call<DeviceView>(at(id), { signal }),
  invite: (body: { name?: string; address?: string }) => call<Invitation>('/devices/invitations', { method: 'POST', body }),
  invitation: (id: string, signal?: AbortSignal) => call<InvitationView>(`/devices/invitations/${encodeURIComponent(id)}`, { signal }),
  change: (id: string, body: DevicePatch) => call<DeviceView>(at(id), { method: 'PATCH', body }),
  revoke: (id: string) => call<void>(at(id), { method: 'DELETE' }),
}
