import { useCallback, useImperativeHandle, useLayoutEffect, useRef } from 'react'
import type { KeyboardEvent, Ref } from 'react'
import { useTranslation } from 'react-i18next'
import { pref, usePref } from '../app/prefs'
import { sends } from './enter'

const LINE_PX = 24
const LINES_MAX = 12

export interface WriteBoxHandle {
  focus(): void
}

interface WriteBoxProps {
  value: string
  change: (text: string) => void
  submit: () => void
  label: string
  placeholder: string
  lines?: number
  autoFocus?: boolean
  onEscape?: () => void
  onUpWhenEmpty?: () => void
  handle?: Ref<WriteBoxHandle>
}

export const isTouch = (): boolean => matchMedia('(pointer: coarse)').matches

/** What Enter does here, in words. */
export function useEnterHint(): string {
  const { t } = useTranslation()
  const byChoice = usePref('ctrlEnter')
  return t(isTouch() ? 'compose.hintTouch' : byChoice ? 'compose.hintCtrl' : 'compose.hintEnter')
}

/** A text field that grows with its text and knows when Enter means "send". */
export function WriteBox(p: WriteBoxProps) {
  const area = useRef<HTMLTextAreaElement>(null)
  const compositionEnd = useRef<number | null>(null)
  useImperativeHandle(p.handle, () => ({ focus: () => area.current?.focus() }), [])
  const fit = useCallback(() => {
    const el = area.current
    if (!el) return
    el.style.height = 'auto'
    el.style.height = `${Math.min(el.scrollHeight, LINE_PX * LINES_MAX + 16)}px`
  }, [])
  useLayoutEffect(fit, [p.value, fit])
  const onKeyDown = (e: KeyboardEvent<HTMLTextAreaElement>): void => {
    if (sends({ ...pick(e), isComposing: e.nativeEvent.isComposing }, compositionEnd.current, isTouch() || pref('ctrlEnter'))) {
      e.preventDefault()
      p.submit()
    } else if (e.key === 'Escape' && !e.nativeEvent.isComposing) {
      if (p.onEscape) p.onEscape()
      else e.currentTarget.blur()
    } else if (e.key === 'ArrowUp' && p.value === '' && p.onUpWhenEmpty) {
      e.preventDefault()
      p.onUpWhenEmpty()
    }
  }
  return (
    <textarea
      ref={area}
      rows={p.lines ?? 2}
      value={p.value}
      aria-label={p.label}
      placeholder={p.placeholder}
      autoFocus={p.autoFocus}
      className="block w-full resize-none rounded-control bg-transparent px-3 py-2 text-read leading-6 outline-none placeholder:text-text-3 max-md:text-[16px]"
      onChange={(e) => p.change(e.target.value)}
      onKeyDown={onKeyDown}
      onCompositionEnd={(e) => (compositionEnd.current = e.timeStamp)}
    />
  )
}

function pick(e: KeyboardEvent) {
  const { key, shiftKey, ctrlKey, metaKey, altKey, keyCode, timeStamp } = e
  return { key, shiftKey, ctrlKey, metaKey, altKey, keyCode, timeStamp }
}
