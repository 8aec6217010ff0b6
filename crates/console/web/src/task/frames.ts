// Frames as the node sends them: the name of the event and its payload.

import type {
  Block,
  BlockStatus,
  MessageKind,
  MessageView,
  Place,
  QueuedMessage,
  RunStep,
  Sender,
  StageInfo,
  Status,
  Wait,
} from '../api/types'

interface Base {
  task_id?: string
  seq: number
  at: string
}

interface OfRow {
  subtask_id: string
  attempt: number
  late?: boolean
}

export interface MessageData extends Base {
  subtask_id: string
  message_id: number
  turn_id: string
  role: MessageView['role']
  kind: MessageKind
  sender: Sender
  content?: string
  step?: RunStep
  status: Status
  client_message_id?: string
}

export interface StartData extends Base, OfRow {
  message_id: number
  keeps: number
  offset: number
  bot_name: string
  shell_type: string
  model?: string
  where: Place
}

export interface ChunkData extends Base, OfRow {
  block_id: string
  content?: string
  offset?: number
  result?: { reasoning_chunk: string }
}

export interface BlockCreatedData extends Base, OfRow {
  block: Block
}

export interface BlockUpdatedData extends Base, OfRow {
  block_id: string
  status?: BlockStatus
  content?: string
  tool_input?: unknown
  tool_output?: string
}

export interface StatusData extends Base {
  subtask_id?: string
  phase: string
  wait?: Wait
  retry_at?: string
  text?: string
}

export interface UsageData extends Base {
  subtask_id?: string
  model: string
  input_tokens: number
  output_tokens: number
  cached_tokens: number
  cost?: number
}

export interface DoneData extends Base, OfRow {
  offset: number
  sha256: string
}

export interface ErrorData extends Base, OfRow {
  error: string
  type: string
  continues?: boolean
  retry_at?: string
}

export type CancelledData = Base & OfRow

export interface EditedData extends Base {
  message_id: number
  removed: string[]
}

export type StageData = Base & StageInfo

export interface QueueData extends Base {
  queue: QueuedMessage[]
}

export interface TaskData extends Base {
  title?: string
  labels?: Record<string, string>
  status?: Status
}

export type Frame =
  | { event: 'chat:message'; data: MessageData }
  | { event: 'chat:start'; data: StartData }
  | { event: 'chat:chunk'; data: ChunkData }
  | { event: 'chat:block_created'; data: BlockCreatedData }
  | { event: 'chat:block_updated'; data: BlockUpdatedData }
  | { event: 'chat:status_updated'; data: StatusData }
  | { event: 'chat:usage'; data: UsageData }
  | { event: 'chat:done'; data: DoneData }
  | { event: 'chat:error'; data: ErrorData }
  | { event: 'chat:cancelled'; data: CancelledData }
  | { event: 'chat:edited'; data: EditedData }
  | { event: 'task:stage'; data: StageData }
  | { event: 'task:queue'; data: QueueData }
  | { event: 'task:updated'; data: TaskData }

export const FRAME_EVENTS: readonly Frame['event'][] = [
  'chat:message',
  'chat:start',
  'chat:chunk',
  'chat:block_created',
  'chat:block_updated',
  'chat:status_updated',
  'chat:usage',
  'chat:done',
  'chat:error',
  'chat:cancelled',
  'chat:edited',
  'task:stage',
  'task:queue',
  'task:updated',
]

/** Code points of a text; a lone surrogate counts as one. */
export function codePoints(text: string): number {
  let count = text.length
  for (let i = 0; i + 1 < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit >= 0xd800 && unit <= 0xdbff) {
      const next = text.charCodeAt(i + 1)
      if (next >= 0xdc00 && next <= 0xdfff) {
        count--
        i++
      }
    }
  }
  return count
}
