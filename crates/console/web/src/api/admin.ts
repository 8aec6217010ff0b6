// What administrators see of the cluster, and do with it.

import { call } from './http'

export interface NodeLoad {
  shards: number
  entities: number
  queued: number
  memory_bytes: number
  uptime_seconds: number
}

export interface NodeView {
  name: string
  is_this: boolean
  state: string
  incarnation: number
  lease_left_ms?: number
  build: string
  roles: string[]
  http?: string
  load?: NodeLoad
  unreachable?: string
}

export interface NodeList {
  items: NodeView[]
  rebalance: string
}

export interface ShardView {
  shard: number
  owner?: string
  epoch: number
  state: 'owned' | 'moving' | 'orphaned' | 'unowned'
  moving_to?: string
  preferred?: string
  entities?: number
}

export interface ActorView {
  id: string
  parent?: string
  name: string
  entity?: string
  state: string
  queue: number
  restarts: number
  last_error?: string
  age_seconds: number
}

export interface ActorTree {
  node: string
  items: ActorView[]
  left_out: number
}

export interface Check {
  name: string
  title: string
  state: 'ok' | 'warn' | 'fail'
  invariant?: string
  found: string
  fix?: string
}

export interface Report {
  state: Check['state']
  at: string
  took_ms: number
  checks: Check[]
}

export interface EntityOutcome {
  entity: string
  outcome: string
  detail: string
}

const wish = (entity: string, verb: 'restart' | 'passivate') =>
  call<EntityOutcome>(`/admin/actors/${encodeURIComponent(entity)}/${verb}`, { method: 'POST', body: {} })

export const admin = {
  nodes: (signal?: AbortSignal) => call<NodeList>('/admin/nodes', { signal }),
  shards: (signal?: AbortSignal) => call<{ items: ShardView[] }>('/admin/shards', { signal }),
  actors: (node: string | undefined, signal?: AbortSignal) =>
    call<ActorTree>(`/admin/actors${node ? `?node=${encodeURIComponent(node)}` : ''}`, { signal }),
  doctor: () => call<Report>('/admin/doctor'),
  restart: (entity: string) => wish(entity, 'restart'),
  passivate: (entity: string) => wish(entity, 'passivate'),
}
