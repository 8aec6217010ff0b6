// JSON shapes of the node, as far as the console reads them.

export type Status =
  | 'PENDING'
  | 'RUNNING'
  | 'PENDING_CONFIRMATION'
  | 'CANCELLING'
  | 'COMPLETED'
  | 'FAILED'
  | 'CANCELLED'
  | 'DELETE'

export type MessageKind = 'user' | 'answer' | 'handoff' | 'routing' | 'plan' | 'merge' | 'conclusion'

export type Sender =
  | { type: 'USER'; user_id: string; user_name: string }
  | { type: 'MEMBER'; member: number; name: string }
  | { type: 'TEAM' }
  | { type: 'SYSTEM' }

export type RunStep = { stage: number } | { round: number } | { item: number }

export type Place =
  | { kind: 'cluster' }
  | { kind: 'device'; id: string; name: string }
  | { kind: 'container'; id: string }

export type BlockStatus =
  | 'pending'
  | 'generating_arguments'
  | 'running'
  | 'streaming'
  | 'done'
  | 'error'
  | 'unknown'

export interface Block {
  id: string
  type: string
  status: BlockStatus
  timestamp: number
  parent_tool_use_id?: string
  content?: string
  tool_use_id?: string
  tool_name?: string
  display_name?: string
  tool_input?: unknown
  tool_output?: string | null
  server_label?: string
  stage?: number
  handoff?: string
  [more: string]: unknown
}

export interface UsageTotal {
  model: string
  input_tokens: number
  output_tokens: number
  cached_tokens: number
  calls: number
  cost?: number
}

export interface AttemptError {
  type: string
  error: string
  continues?: boolean
}

export interface AttemptView {
  attempt: number
  status: Status
  where: Place
  bot_name: string
  shell_type: string
  model?: string
  error?: AttemptError
  interrupted?: Block[]
  started_at: string
  ended_at?: string
}

export interface MessageView {
  subtask_id: string
  message_id: number
  turn_id: string
  role: 'USER' | 'ASSISTANT'
  kind: MessageKind
  sender: Sender
  step?: RunStep
  status: Status
  content: string
  blocks: Block[]
  attempts: AttemptView[]
  usage?: UsageTotal
  client_message_id?: string
  created_at: string
}

export interface TurnView {
  turn_id: string
  messages: MessageView[]
}

export interface StageView {
  index: number
  name: string
  require_confirmation: boolean
  status: 'completed' | 'running' | 'pending_confirmation' | 'failed' | 'pending'
}

export interface StageInfo {
  current_stage: number
  total_stages: number
  current_stage_name: string
  is_pending_confirmation: boolean
  stages: StageView[]
}

export interface QueuedMessage {
  subtask_id: string
  sender: Sender
  content: string
  client_message_id?: string
}

export interface Wait {
  code: string
  args: Record<string, unknown>
}

/** What an agent waits for, in the inbox. */
export interface OpenAsk {
  task_id: string
  title: string
  team_name: string
  team_namespace: string
  subtask_id: string
  attempt: number
  bot_name: string
  where: Place
  block: Block
}

export interface OpenAsks {
  asks: OpenAsk[]
  more: boolean
}

export interface TaskView {
  id: string
  user_id: string
  user_name: string
  title: string
  labels: Record<string, string>
  status: Status
  wait?: Wait
  team_namespace: string
  team_name: string
  collaboration_model: string
  stage?: StageInfo
  queue: QueuedMessage[]
  created_at: string
  updated_at: string
  log: string
  head: number
}

export interface TaskLite {
  id: string
  user_id: string
  title: string
  status: Status
  team_name: string
  team_namespace: string
  created_at: string
  updated_at: string
  completed_at?: string
  last_line?: string
  /** Approvals and questions that wait for a person. */
  asks?: number
}

export interface Page<T> {
  total: number
  items: T[]
  next?: string
}

export interface OutlineRow {
  turn_id: string
  first_seq: number
  message_id: number
  author: string
  excerpt: string
  status: Status
}

export interface Viewer {
  user_id: string
  user_name: string
}

export interface JoinAnswer {
  log: string
  head: number
  task: TaskView
  turns: TurnView[]
  outline: OutlineRow[]
  viewers: Viewer[]
}

export interface TurnsPage {
  log: string
  head: number
  turns: TurnView[]
  before?: string
}

export interface SendAck {
  task_id: string
  subtask_id?: string
  message_id?: number
  turn_id?: string
  queued: boolean
}

export interface UserView {
  id: string
  user_name: string
  role: 'admin' | 'user'
}

export interface TokenAnswer {
  access_token: string
  expires_in: number
  proof?: string
  user: UserView
}

export interface Meta {
  name: string
  version: string
  cluster_id: string
  setup_needed: boolean
  demo: boolean
}

export interface FieldError {
  file?: string
  line?: number
  column?: number
  path: string
  found?: string
  allowed?: string[]
  message: string
  suggestion?: string
}

export interface Problem {
  status: number
  code: string
  detail: string
  errors?: FieldError[]
  request_id?: string
  retry_after?: number
}

export interface Resource {
  apiVersion?: string
  kind: string
  metadata: {
    name: string
    namespace?: string
    displayName?: string
    owner?: string
    resourceVersion?: string | number
    [more: string]: unknown
  }
  spec: Record<string, unknown>
  status?: Record<string, unknown>
}

export interface ResourceList {
  items: Resource[]
}
