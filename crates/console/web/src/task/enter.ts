// Whether a key press sends. Input methods use Enter too, and browsers tell it differently.

export const COMPOSITION_MS = 80

export interface EnterPress {
  key: string
  shiftKey: boolean
  ctrlKey: boolean
  metaKey: boolean
  altKey: boolean
  isComposing: boolean
  keyCode: number
  timeStamp: number
}

/** `newLine`: Enter alone makes one (on touch, or by choice). `compositionEnd`: when the last composition ended, same clock as `timeStamp`; null: never. */
export function sends(e: EnterPress, compositionEnd: number | null, newLine: boolean): boolean {
  if (e.key !== 'Enter') return false
  if (e.isComposing || e.keyCode === 229) return false
  // Safari ends the composition before the key press that ended it.
  if (compositionEnd !== null && e.timeStamp - compositionEnd < COMPOSITION_MS) return false
  if (e.ctrlKey || e.metaKey) return true
  if (e.shiftKey || e.altKey) return false
  return !newLine
}
