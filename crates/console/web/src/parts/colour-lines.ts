// What a highlighter wrote as HTML, as lines of plain pieces: nothing is put into the page as
// HTML, and a comment over several lines has its colour in each.

import type { Line } from './colours'

const TOKEN = /<span class="([^"]*)">|<\/span>|&(?:amp|lt|gt|quot|#x27);|\n|[^<&\n]+|[<&]/g
const SIGNS: Record<string, string> = { '&amp;': '&', '&lt;': '<', '&gt;': '>', '&quot;': '"', '&#x27;': "'" }

/** "hljs-title function_" is a title. */
const kindOf = (classes: string): string => /^hljs-([a-z]+)/.exec(classes)?.[1] ?? ''

export function linesOf(html: string): Line[] {
  const lines: Line[] = []
  let line: [string, string][] = []
  const open: string[] = []
  for (const [token, classes] of html.matchAll(TOKEN)) {
    if (classes !== undefined) {
      open.push(kindOf(classes) || (open.at(-1) ?? ''))
    } else if (token === '</span>') {
      open.pop()
    } else if (token === '\n') {
      lines.push(line)
      line = []
    } else {
      const text = SIGNS[token] ?? token
      const kind = open.at(-1) ?? ''
      const last = line.at(-1)
      if (last && last[1] === kind) last[0] += text
      else line.push([text, kind])
    }
  }
  lines.push(line)
  return lines
}
