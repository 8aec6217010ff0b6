// Runs in a worker: finds the kinds of the pieces of code.

import hljs from 'highlight.js/lib/core'
import bash from 'highlight.js/lib/languages/bash'
import cpp from 'highlight.js/lib/languages/cpp'
import css from 'highlight.js/lib/languages/css'
import diff from 'highlight.js/lib/languages/diff'
import go from 'highlight.js/lib/languages/go'
import ini from 'highlight.js/lib/languages/ini'
import java from 'highlight.js/lib/languages/java'
import javascript from 'highlight.js/lib/languages/javascript'
import json from 'highlight.js/lib/languages/json'
import markdown from 'highlight.js/lib/languages/markdown'
import python from 'highlight.js/lib/languages/python'
import rust from 'highlight.js/lib/languages/rust'
import sql from 'highlight.js/lib/languages/sql'
import typescript from 'highlight.js/lib/languages/typescript'
import xml from 'highlight.js/lib/languages/xml'
import yaml from 'highlight.js/lib/languages/yaml'
import { linesOf } from './colour-lines'
import type { Answer, Ask } from './colours'

const LANGUAGES = { bash, cpp, css, diff, go, ini, java, javascript, json, markdown, python, rust, sql, typescript, xml, yaml }
for (const [name, language] of Object.entries(LANGUAGES)) hljs.registerLanguage(name, language)
hljs.registerAliases(['shell', 'console', 'shellsession', 'fish', 'dockerfile', 'docker', 'makefile'], { languageName: 'bash' })
hljs.registerAliases(['c', 'h'], { languageName: 'cpp' })
hljs.registerAliases(['vue', 'svelte', 'html'], { languageName: 'xml' })
hljs.registerAliases(['jsonc', 'json5', 'ndjson'], { languageName: 'json' })

onmessage = ({ data }: MessageEvent<Ask>) => {
  const { id, language, code } = data
  let lines: Answer['lines'] = null
  if (hljs.getLanguage(language)) {
    lines = linesOf(hljs.highlight(code, { language, ignoreIllegals: true }).value)
  }
  postMessage({ id, lines } satisfies Answer)
}
