// Single keys that go somewhere. None acts while something is being written.

import { useNavigate } from '@tanstack/react-router'
import { useEffect } from 'react'

export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false
  return target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)
}

const SEQUENCE_MS = 1_200

export function useGoKeys(): void {
  const navigate = useNavigate()
  useEffect(() => {
    let pressedG = 0
    const handler = (e: KeyboardEvent): void => {
      if (isTyping(e.target) || e.ctrlKey || e.metaKey || e.altKey || e.isComposing) return
      const key = e.key.toLowerCase()
      if (key === 'g') {
        pressedG = e.timeStamp
      } else if (key === 't' && e.timeStamp - pressedG < SEQUENCE_MS) {
        void navigate({ to: '/tasks' })
      } else if (key === 'c') {
        e.preventDefault()
        void navigate({ to: '/tasks/new' })
      }
    }
    addEventListener('keydown', handler)
    return () => removeEventListener('keydown', handler)
  }, [navigate])
}
