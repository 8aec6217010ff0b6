// Whether the transcript stays at its end while it grows. Growth never changes it; people do.

export const NEAR_END_PX = 48

export interface Follow {
  following: boolean
  /** Why it stopped: by a person, or because a growing text reached the top. */
  reason: 'start' | 'person' | 'reading'
}

export type FollowEvent =
  | { type: 'open' }
  | { type: 'send' }
  | { type: 'jump' }
  /** A person moved, selected, or opened something; `away` = px from the end afterwards. */
  | { type: 'scrolled'; away: number; up: boolean }
  | { type: 'selected' }
  | { type: 'opened' }
  | { type: 'grew' }
  | { type: 'resized' }
  /** The first line of a growing text came to the top of the view. */
  | { type: 'reached-top'; always: boolean }

export const FOLLOW_AT_OPEN: Follow = { following: true, reason: 'start' }

export function follow(state: Follow, event: FollowEvent): Follow {
  switch (event.type) {
    case 'open':
    case 'send':
    case 'jump':
      return state.following ? state : { following: true, reason: 'start' }
    case 'scrolled':
      if (!event.up && event.away <= NEAR_END_PX) {
        return state.following ? state : { following: true, reason: 'start' }
      }
      if (event.up && event.away > 1) return stop(state, 'person')
      return event.away > NEAR_END_PX ? stop(state, 'person') : state
    case 'selected':
    case 'opened':
      return stop(state, 'person')
    case 'reached-top':
      return event.always || !state.following ? state : stop(state, 'reading')
    case 'grew':
    case 'resized':
      return state
  }
}

function stop(state: Follow, reason: Follow['reason']): Follow {
  return state.following ? { following: false, reason } : state
}
