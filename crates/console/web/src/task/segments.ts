// Cuts growing Markdown at places where the parse of the parts is the parse of the whole, so
// that a part which is over is parsed once and never again.

/** A segment is not cut before this many characters, but for code fences. */
export const SEGMENT_MIN = 1_500
/** A list is cut at a top-level item after this many. */
export const LIST_MIN = 3_000
/** A growing tail above this is shown as plain text, and cut at the next line's end. */
export const TAIL_MAX = 6_000
/** A part above this stays plain text also when it is over: a parse would stop the page. */
export const PARSE_MAX = 12_000
/** A table is cut after this many rows; its head is shown again. */
export const TABLE_ROWS = 40

const FENCE = /^( {0,3})(`{3,}|~{3,})(.*)$/
/** Formulas between lines of dollars. */
const MATHS = /^ {0,3}(\${2,})[ \t]*$/
const ITEM = /^ {0,3}(?:[-+*]|\d{1,9}[.)])(?:[ \t]|$)/
const DEFINITION = /^ {0,3}\[([^\]]+)\]:\s*\S/
const DELIMITER = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/
/** Lines that end a table without a blank line before them. */
const OTHER_BLOCK = /^ {0,3}(?:>|#{1,6}[ \t]|(?:[-*_][ \t]*){3,}$)/
const HTML_OPEN = /^ {0,3}<(?:(!--)|(pre|script|style|textarea)\b)/i

interface Fence {
  mark: string
  /** At the left edge and outside of lists: a segment of its own. */
  top: boolean
}

interface Table {
  /** Its first line and the delimiter row. */
  head: string
  rows: number
}

export class Segmenter {
  /** Segments that are over. */
  readonly settled: string[] = []
  /** Link definitions so far, a line each. */
  readonly definitions: string[] = []
  /** There is more to cut than was asked for; the tail ends before it. */
  pending = false
  private text = ''
  /** Where the tail begins. */
  private start = 0
  /** Where the first line begins that was not looked at. */
  private scanned = 0
  private fence: Fence | null = null
  private htmlEnd: string | null = null
  private inList = false
  private blank = true
  private table: Table | null = null
  private previous = ''
  /** The next line is the rest of one that was too long. */
  private midLine = false
  /** Heads of tables that go on in a segment, by its place. */
  private readonly heads = new Map<number, string>()

  /** The text so far; it only grows. At most so many segments more. True: there are more parts. */
  update(text: string, most = Infinity): boolean {
    const before = this.settled.length
    const hadTail = this.tail !== ''
    this.text = text
    this.pending = false
    for (;;) {
      if (this.settled.length - before >= most) {
        this.pending = this.scanned < text.length
        break
      }
      const end = text.indexOf('\n', this.scanned)
      const stop = end < 0 ? text.length : end
      if (stop - this.scanned > TAIL_MAX && !this.fence && !this.htmlEnd) {
        this.longLine()
        continue
      }
      if (end < 0) break
      this.line(text.slice(this.scanned, end).replace(/\r$/, ''), this.scanned, end + 1)
      this.scanned = end + 1
    }
    return this.settled.length > before || (!hadTail && this.tail !== '')
  }

  get tail(): string {
    return this.text.slice(this.start, this.pending ? this.scanned : undefined)
  }

  /** What Markdown of a segment has to begin with; of the tail, if its place is `settled.length`. */
  head(segment: number): string {
    return this.heads.get(segment) ?? ''
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
      if (closes(line, this.fence.mark)) {
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
    if (this.midLine) {
      this.midLine = false
      this.blank = line.trim() === ''
      return
    }
    if (line.trim() === '') {
      this.blank = true
      this.table = null
      return
    }
    const edge = !/^[ \t]/.test(line)
    const item = ITEM.test(line)
    if (edge && !item && this.blank) this.inList = false
    if (this.opens(line, at, edge)) {
      this.table = null
      return
    }
    const length = at - this.start
    if (edge && this.inList && item) {
      if (length >= LIST_MIN) this.cut(at)
    } else if (edge && this.blank && !this.inList && length >= SEGMENT_MIN) {
      this.cut(at)
    }
    this.rows(line, at, item)
    if (edge && next - this.start > TAIL_MAX && !this.table) this.cut(at)
    if (item) this.inList = true
    if (DEFINITION.test(line)) this.definitions.push(line)
    this.blank = false
    this.previous = line
  }

  /** Follows a table; a long one is cut, and its head goes to the next segment. */
  private rows(line: string, at: number, item: boolean): void {
    if (this.table) {
      if (item || OTHER_BLOCK.test(line)) {
        this.table = null
      } else if (this.table.rows >= TABLE_ROWS || at - this.start > TAIL_MAX) {
        this.cut(at)
        this.heads.set(this.settled.length, this.table.head)
        this.table.rows = 1
      } else {
        this.table.rows++
      }
    } else if (!this.inList && !this.blank && this.previous.includes('|') && line.includes('|') && DELIMITER.test(line)) {
      this.table = { head: `${this.previous}\n${line}\n`, rows: 0 }
    }
  }

  /** A line of which no end is in sight is cut in pieces, at a space if there is one. */
  private longLine(): void {
    this.cut(this.scanned)
    const end = this.scanned + TAIL_MAX
    const space = this.text.lastIndexOf(' ', end)
    let at = space > end - 200 ? space + 1 : end
    const unit = this.text.charCodeAt(at)
    if (unit >= 0xdc00 && unit <= 0xdfff) at--
    this.cut(at)
    this.scanned = at
    this.table = null
    this.blank = false
    this.midLine = true
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
    const maths = MATHS.exec(line)
    if (maths) {
      this.fence = { mark: maths[1]!, top: false }
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

/** Whether a line ends what was opened by this mark. */
function closes(line: string, mark: string): boolean {
  if (mark.startsWith('$')) return line.trim().startsWith(mark) && /^\s*\$+\s*$/.test(line)
  const close = FENCE.exec(line)
  return !!close && close[3]!.trim() === '' && close[2]!.startsWith(mark)
}

/** The code of a segment that is a fence and nothing else. */
export function fenceOf(source: string): { info: string; code: string } | null {
  const first = source.indexOf('\n')
  const open = first < 0 ? null : FENCE.exec(source.slice(0, first).replace(/\r$/, ''))
  if (!open || open[1] !== '' || (open[2]!.startsWith('`') && open[3]!.includes('`'))) return null
  const body = source.trimEnd()
  const last = body.lastIndexOf('\n')
  const close = FENCE.exec(body.slice(last + 1))
  if (last < first || !close || close[3]!.trim() !== '' || !close[2]!.startsWith(open[2]!)) return null
  return { info: open[3]!.trim(), code: body.slice(first + 1, Math.max(first + 1, last)) }
}

/** A segment with the definitions that it may use. */
export function withDefinitions(source: string, definitions: readonly string[]): string {
  if (definitions.length === 0 || !source.includes('[')) return source
  const missing = definitions.filter((d) => !source.includes(d))
  return missing.length === 0 ? source : `${source.trimEnd()}\n\n${missing.join('\n')}\n`
}
