// Cuts growing Markdown at places where the parse of the parts is the parse of the whole, so
// that a part which is over is parsed once and never again.

/** A segment is not cut before this many characters, but for code fences. */
export const SEGMENT_MIN = 1_500
/** A list is cut at a top-level item after this many. */
export const LIST_MIN = 3_000
/** A growing tail above this is shown as plain text until it can be cut. */
export const TAIL_MAX = 6_000
/** A part above this stays plain text also when it is over: a parse would stop the page. */
export const PARSE_MAX = 48_000

const FENCE = /^( {0,3})(`{3,}|~{3,})(.*)$/
const ITEM = /^ {0,3}(?:[-+*]|\d{1,9}[.)])(?:[ \t]|$)/
const DEFINITION = /^ {0,3}\[([^\]]+)\]:\s*\S/
const HTML_OPEN = /^ {0,3}<(?:(!--)|(pre|script|style|textarea)\b)/i

interface Fence {
  mark: string
  /** At the left edge and outside of lists: a segment of its own. */
  top: boolean
}

export class Segmenter {
  /** Segments that are over. */
  readonly settled: string[] = []
  /** Link definitions so far, a line each. */
  readonly definitions: string[] = []
  private text = ''
  /** Where the tail begins. */
  private start = 0
  /** Where the first line begins that was not looked at. */
  private scanned = 0
  private fence: Fence | null = null
  private htmlEnd: string | null = null
  private inList = false
  private blank = true

  /** The text so far; it only grows. True: a segment more is over. */
  update(text: string): boolean {
    const before = this.settled.length
    this.text = text
    for (;;) {
      const end = text.indexOf('\n', this.scanned)
      if (end < 0) break
      this.line(text.slice(this.scanned, end).replace(/\r$/, ''), this.scanned, end + 1)
      this.scanned = end + 1
    }
    return this.settled.length > before
  }

  get tail(): string {
    return this.text.slice(this.start)
  }

  /** The code inside of a tail that is an open top-level fence. */
  get openFence(): { info: string; code: string } | null {
    if (!this.fence?.top) return null
    const { tail } = this
    const first = tail.indexOf('\n')
    if (first < 0) return null
    const info = (FENCE.exec(tail.slice(0, first))?.[3] ?? '').trim()
    return { info, code: tail.slice(first + 1) }
  }

  private line(line: string, at: number, next: number): void {
    if (this.fence) {
      const close = FENCE.exec(line)
      const closes =
        close && close[3]!.trim() === '' && close[2]!.startsWith(this.fence.mark)
      if (closes) {
        if (this.fence.top) this.cut(next)
        this.fence = null
        this.blank = false
      }
      return
    }
    if (this.htmlEnd) {
      if (line.toLowerCase().includes(this.htmlEnd)) this.htmlEnd = null
      this.blank = false
      return
    }
    if (line.trim() === '') {
      this.blank = true
      return
    }
    const edge = !/^[ \t]/.test(line)
    const item = ITEM.test(line)
    if (edge && !item && this.blank) this.inList = false
    if (this.opens(line, at, edge)) return
    if (this.blank && edge) {
      const length = at - this.start
      if (this.inList && item ? length >= LIST_MIN : !this.inList && length >= SEGMENT_MIN) {
        this.cut(at)
      }
    }
    if (item) this.inList = true
    if (DEFINITION.test(line)) this.definitions.push(line)
    this.blank = false
  }

  /** Whether the line opens something whose inside is not looked at. */
  private opens(line: string, at: number, edge: boolean): boolean {
    const fence = FENCE.exec(line)
    const opens = fence && !(fence[2]!.startsWith('`') && fence[3]!.includes('`'))
    if (opens) {
      if (edge) this.inList = false
      const top = edge && !this.inList
      if (top) this.cut(at)
      this.fence = { mark: fence[2]!, top }
      return true
    }
    const html = HTML_OPEN.exec(line)
    if (html) {
      const end = html[1] ? '-->' : `</${html[2]!.toLowerCase()}>`
      if (!line.toLowerCase().includes(end)) {
        this.htmlEnd = end
        this.blank = false
        return true
      }
    }
    return false
  }

  private cut(at: number): void {
    if (this.text.slice(this.start, at).trim() === '') return
    this.settled.push(this.text.slice(this.start, at))
    this.start = at
  }
}

/** A segment with the definitions that it may use. */
export function withDefinitions(source: string, definitions: readonly string[]): string {
  if (definitions.length === 0 || !source.includes('[')) return source
  const missing = definitions.filter((d) => !source.includes(d))
  return missing.length === 0 ? source : `${source.trimEnd()}\n\n${missing.join('\n')}\n`
}
