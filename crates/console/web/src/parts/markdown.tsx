// Markdown of agents: no HTML, links with their host in sight, images on a click.

import { Square, SquareCheck } from 'lucide-react'
import { memo, useEffect, useReducer, useState } from 'react'
import type { ComponentProps, ReactElement, ReactNode } from 'react'
import { useTranslation } from 'react-i18next'
import ReactMarkdown from 'react-markdown'
import type { Components, ExtraProps, Options } from 'react-markdown'
import remarkCjk from 'remark-cjk-friendly'
import remarkGfm from 'remark-gfm'
import remarkMath from 'remark-math'
import { dollarsAlone } from './alone'
import { CodeBlock } from './code'
import { Fenced } from './fenced'
import { Maths } from './maths'
import { nextTask, Parser } from './parsed'

function safe(url: string): string {
  return /^(https?:|mailto:|#|\/(?!\/))/i.test(url) ? url : ''
}

function hostOf(url: string | undefined): string {
  try {
    return url ? new URL(url, location.href).host : ''
  } catch {
    return ''
  }
}

function textOf(node: ReactNode): string {
  if (typeof node === 'string' || typeof node === 'number') return String(node)
  if (Array.isArray(node)) return node.map(textOf).join('')
  if (node && typeof node === 'object' && 'props' in node) {
    return textOf((node.props as { children?: ReactNode }).children)
  }
  return ''
}

function Anchor({ href, children }: ComponentProps<'a'> & ExtraProps) {
  const { t } = useTranslation()
  if (!href) return <span>{children}</span>
  const host = hostOf(href)
  const own = host === location.host
  return (
    <a href={href} target={own ? undefined : '_blank'} rel="noopener noreferrer nofollow" title={own ? undefined : t('block.linkHost', { host })}>
      {children}
      {!own && !textOf(children).includes(host) && <span className="text-text-3">{` (${host})`}</span>}
    </a>
  )
}

function Image({ src, alt }: ComponentProps<'img'> & ExtraProps) {
  const { t } = useTranslation()
  const [open, setOpen] = useState(false)
  const url = typeof src === 'string' ? src : ''
  const host = hostOf(url)
  // Images of other hosts would be refused by the policy of this page: they are links.
  if (host !== location.host) {
    return (
      <a href={url} target="_blank" rel="noopener noreferrer nofollow">
        {alt || url} <span className="text-text-3">{`(${host})`}</span>
      </a>
    )
  }
  if (open) return <img src={url} alt={alt ?? ''} className="max-h-96 max-w-full" />
  return (
    <button type="button" className="btn h-auto min-h-8 py-1 whitespace-normal" onClick={() => setOpen(true)}>
      {t('block.image', { host })}
      {alt && ` · ${alt}`}
    </button>
  )
}

/** The box of a list of tasks: a picture, as nobody can tick it. */
function Tick({ checked }: ComponentProps<'input'> & ExtraProps) {
  const { t } = useTranslation()
  const Icon = checked ? SquareCheck : Square
  return <Icon size={16} strokeWidth={1.5} role="img" aria-hidden={false} aria-label={t(checked ? 'block.ticked' : 'block.unticked')} className={`mr-1.5 inline align-[-3px] ${checked ? 'text-success' : 'text-text-3'}`} />
}

/** What a `pre` holds. */
function codeOf(children: ReactNode): { info: string; code: string } {
  const child = children as { props?: { className?: string; children?: ReactNode } } | undefined
  const info = /language-(\S+)/.exec(child?.props?.className ?? '')?.[1] ?? ''
  return { info, code: textOf(child?.props?.children).replace(/\n$/, '') }
}

const COMPONENTS: Components = {
  input: Tick,
  a: Anchor,
  img: Image,
  pre: ({ children }) => <Fenced {...codeOf(children)} />,
  code: ({ className, children }) =>
    className?.includes('math-inline') ? <Maths source={textOf(children)} /> : <code className={className}>{children}</code>,
  table: ({ children }) => (
    <div className="table-box" tabIndex={0} role="group">
      <table>{children}</table>
    </div>
  ),
}

/** What grows shows its code alone: half of a formula or a diagram is neither. */
const GROWING: Components = {
  ...COMPONENTS,
  pre: ({ children }) => <CodeBlock {...codeOf(children)} />,
  code: 'code',
}

// One dollar alone is money more often than mathematics.
const PLUGINS: Options['remarkPlugins'] = [remarkGfm, remarkCjk, [remarkMath, { singleDollarTextMath: false }], dollarsAlone]

const parse = (source: string, components = COMPONENTS): ReactElement =>
  ReactMarkdown({ children: source, remarkPlugins: PLUGINS, components, urlTransform: safe, skipHtml: false })

const parser = new Parser((source) => parse(source), nextTask())

/** One segment, parsed once for each source; plain text until there is time for it. */
export const Markdown = memo(function Markdown({ source }: { source: string }) {
  const [, again] = useReducer((n: number) => n + 1, 0)
  const made = parser.take(source)
  useEffect(() => {
    if (!made) return parser.soon(source, again)
  }, [made, source])
  return made ?? <div className="whitespace-pre-wrap">{source}</div>
})

/** A text that still grows: parsed each time, and not kept. */
export const LiveMarkdown = memo(function LiveMarkdown({ source }: { source: string }) {
  return parse(source, GROWING)
})
