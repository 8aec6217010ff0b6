// After the build: brotli beside each text file, sizes in print, and an end when a page weighs
// more than its budget.

import { readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'

const dist = new URL('../dist/', import.meta.url).pathname
const KB = 1024
const LIMITS = { first: 190 * KB, task: 300 * KB, css: 25 * KB, words: 12 * KB, colours: 30 * KB, palette: 25 * KB }

// Only for this script: it is not served.
const manifest = JSON.parse(readFileSync(join(dist, '.vite/manifest.json'), 'utf8'))
rmSync(join(dist, '.vite'), { recursive: true })

const files = readdirSync(dist, { recursive: true, withFileTypes: true })
  .filter((f) => f.isFile())
  .map((f) => join(f.parentPath, f.name))

for (const file of files) {
  if (!/\.(js|css|html|svg|json)$/.test(file)) continue
  const bytes = readFileSync(file)
  const params = {
    [constants.BROTLI_PARAM_QUALITY]: 11,
    [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
  }
  const small = brotliCompressSync(bytes, { params })
  if (small.length < bytes.length) writeFileSync(`${file}.br`, small)
}

const gz = (file) => gzipSync(readFileSync(join(dist, file)), { level: 9 }).length
/** All files that a page needs before it shows: its chunk and what that imports at once. */
function closure(keys) {
  const seen = new Set()
  const walk = (key) => {
    if (seen.has(key)) return
    seen.add(key)
    for (const next of manifest[key].imports ?? []) walk(next)
  }
  keys.forEach(walk)
  return [...seen]
}

const js = (keys) => closure(keys).reduce((sum, key) => sum + gz(manifest[key].file), 0)
const css = (keys) =>
  [...new Set(closure(keys).flatMap((key) => manifest[key].css ?? []))].reduce((sum, f) => sum + gz(f), 0)

const entry = 'index.html'
const words = ['src/i18n/en.ts', 'src/i18n/zh.ts']
const pages = ['setup', 'login', 'inbox', 'tasks', 'new-task', 'task', 'plain', 'devices', 'device', 'resources', 'cluster']
const rows = []
let broken = false
const check = (name, size, limit) => {
  const bad = limit !== undefined && size > limit
  broken ||= bad
  const limitText = limit === undefined ? '' : ` of ${(limit / KB).toFixed(0)}`
  rows.push(`${bad ? 'OVER ' : '     '}${name.padEnd(24)}${(size / KB).toFixed(1).padStart(7)}${limitText} KB gz`)
}

const first = js([entry]) + gz(manifest[words[0]].file)
check('first JS with words', first, LIMITS.first)
check('CSS', css([entry]), LIMITS.css)
for (const file of words) check(`words ${file.slice(-5, -3)}`, gz(manifest[file].file), LIMITS.words)
for (const page of pages) {
  const size = js([entry, `src/pages/${page}.tsx`]) + gz(manifest[words[0]].file)
  check(`page ${page}`, size, page === 'task' ? LIMITS.task : undefined)
}
// Loaded when they are needed.
const worker = files.find((file) => /colour-worker-[^/]*\.js$/.test(file))
check('lazy colours', worker ? gzipSync(readFileSync(worker), { level: 9 }).length : Infinity, LIMITS.colours)
const there = new Set(closure([entry, 'src/pages/tasks.tsx']))
const palette = closure(['src/app/palette.tsx']).filter((key) => !there.has(key))
check('lazy palette', palette.reduce((sum, key) => sum + gz(manifest[key].file), 0), LIMITS.palette)
const total = files.reduce((sum, file) => sum + statSync(file).size, 0)
console.log(rows.join('\n'))
console.log(`     ${'all files'.padEnd(24)}${(total / KB).toFixed(0).padStart(7)} KB`)
if (broken) {
  console.error('A budget is broken.')
  process.exit(1)
}

// A build of the node that found no console watches this file.
const now = new Date()
utimesSync(new URL('../package.json', import.meta.url), now, now)
