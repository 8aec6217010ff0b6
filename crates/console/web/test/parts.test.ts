import { describe, expect, it } from 'vitest'
import { sends } from '../src/task/enter'
import type { EnterPress } from '../src/task/enter'
import { Flush } from '../src/task/flush'
import { FOLLOW_AT_OPEN, follow } from '../src/task/follow'
import type { Follow, FollowEvent } from '../src/task/follow'
import { codePoints } from '../src/task/frames'

describe('following', () => {
  const on: Follow = FOLLOW_AT_OPEN
  const off: Follow = { following: false, reason: 'person' }
  const table: [string, Follow, FollowEvent, boolean][] = [
    ['opens following', off, { type: 'open' }, true],
    ['a send follows', off, { type: 'send' }, true],
    ['a jump follows', off, { type: 'jump' }, true],
    ['growth does not stop it', on, { type: 'grew' }, true],
    ['growth does not start it', off, { type: 'grew' }, false],
    ['a new size does not stop it', on, { type: 'resized' }, true],
    ['scrolling up stops it, even near the end', on, { type: 'scrolled', away: 20, up: true }, false],
    ['a bounce at the very end does not', on, { type: 'scrolled', away: 0, up: true }, true],
    ['coming within 48 px starts it', off, { type: 'scrolled', away: 48, up: false }, true],
    ['49 px do not', off, { type: 'scrolled', away: 49, up: false }, false],
    ['scrolling up near the end does not start it', off, { type: 'scrolled', away: 10, up: true }, false],
    ['a selection stops it', on, { type: 'selected' }, false],
    ['opening a block stops it', on, { type: 'opened' }, false],
    ['a first line at the top stops it', on, { type: 'reached-top', always: false }, false],
    ['unless always following was chosen', on, { type: 'reached-top', always: true }, true],
  ]
  it.each(table)('%s', (_, state, event, expected) => {
    expect(follow(state, event).following).toBe(expected)
  })
  it('keeps its object when nothing changes', () => {
    expect(follow(on, { type: 'grew' })).toBe(on)
    expect(follow(off, { type: 'selected' })).toBe(off)
  })
})

describe('enter', () => {
  const press: EnterPress = {
    key: 'Enter',
    shiftKey: false,
    ctrlKey: false,
    metaKey: false,
    altKey: false,
    isComposing: false,
    keyCode: 13,
    timeStamp: 1_000,
  }
  it('sends, but not on touch and not with shift', () => {
    expect(sends(press, null, false)).toBe(true)
    expect(sends(press, null, true)).toBe(false)
    expect(sends({ ...press, shiftKey: true }, null, false)).toBe(false)
    expect(sends({ ...press, ctrlKey: true }, null, true)).toBe(true)
    expect(sends({ ...press, key: 'a' }, null, false)).toBe(false)
  })
  it('never sends what an input method takes', () => {
    expect(sends({ ...press, isComposing: true }, null, false)).toBe(false)
    expect(sends({ ...press, keyCode: 229 }, null, false)).toBe(false)
    // Safari: the composition ended 3 ms before its own key press arrives.
    expect(sends(press, 997, false)).toBe(false)
    expect(sends(press, 900, false)).toBe(true)
  })
})

describe('the flush', () => {
  const screen = () => {
    const frames: (() => void)[] = []
    const s = { time: 0, isHidden: false, frames }
    return Object.assign(s, {
      hidden: () => s.isHidden,
      now: () => s.time,
      frame: (callback: () => void) => void frames.push(callback),
    })
  }
  it('takes all of a frame at once and publishes once', () => {
    const s = screen()
    const took: number[] = []
    let published = 0
    const flush = new Flush<number>(s, (n) => took.push(n), () => ++published > 9)
    for (let i = 0; i < 10; i++) flush.push(i)
    expect(took).toEqual([])
    expect(s.frames.length).toBe(1)
    s.frames.shift()!()
    expect(took.length).toBe(10)
    expect(published).toBe(1)
  })
  it('leaves the rest to the next frame after 4 ms', () => {
    const s = screen()
    const took: number[] = []
    const flush = new Flush<number>(s, (n) => {
      took.push(n)
      s.time += 1
    }, () => false)
    for (let i = 0; i < 40; i++) flush.push(i)
    s.frames.shift()!()
    expect(took.length).toBeLessThan(40)
    while (s.frames.length > 0) s.frames.shift()!()
    expect(took).toEqual(Array.from({ length: 40 }, (_, i) => i))
  })
  it('applies at once in a hidden tab', () => {
    const s = screen()
    s.isHidden = true
    const took: number[] = []
    let published = false
    const flush = new Flush<number>(s, (n) => took.push(n), () => {
      published = true
      return false
    })
    flush.push(1)
    expect(took).toEqual([1])
    expect(s.frames.length).toBe(0)
    expect(published, 'nothing is shown to nobody').toBe(false)
    s.isHidden = false
    flush.all()
    expect(published).toBe(true)
  })
  it('shows the rest in the frames that follow', () => {
    const s = screen()
    let left = 3
    const flush = new Flush<number>(s, () => undefined, () => --left > 0)
    flush.push(1)
    while (s.frames.length > 0) s.frames.shift()!()
    expect(left).toBe(0)
  })
})

it('counts code points, not units', () => {
  expect(codePoints('')).toBe(0)
  expect(codePoints('aé中')).toBe(3)
  expect(codePoints('👩‍👩‍👧‍👦')).toBe(7)
  expect(codePoints('𝒳\ud83d')).toBe(2)
})
