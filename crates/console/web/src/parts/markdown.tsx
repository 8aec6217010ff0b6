// Markdown of agents: no HTML, links with their host in sight, images on a click.

import { Check, Copy, WrapText } from 'lucide-react'
import { memo, useState } from 'react'
import type { ComponentProps, ReactNode } from 'react'
import { useTranslation } from 'react-i18next'
import ReactMarkdown from 'react-markdown'
import type { Components, ExtraProps } from 'react-markdown'
import remarkCjk from 'remark-cjk-friendly'
import remarkGfm from 'remark-gfm'
import { copyText } from './ids'
import { toast } from './toast'

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

const COMPONENTS: Components = {
  a: Anchor,
  img: Image,
  pre: ({ children }) => {
    const child = children as { props?: { className?: string; children?: ReactNode } } | undefined
    const info = /language-(\S+)/.exec(child?.props?.className ?? '')?.[1] ?? ''
    return <CodeBlock info={info} code={textOf(child?.props?.children).replace(/\n$/, '')} />
  },
  table: ({ children }) => (
    <div className="table-box" tabIndex={0} role="group">
      <table>{children}</table>
    </div>
  ),
}

const PLUGINS = [remarkGfm, remarkCjk]

/** One segment, parsed once for each source. */
export const Markdown = memo(function Markdown({ source }: { source: string }) {
  return (
    <ReactMarkdown remarkPlugins={PLUGINS} components={COMPONENTS} urlTransform={safe} skipHtml={false}>
      {source}
    </ReactMarkdown>
  )
})

/** Code with its language, copy and wrap. A growing one grows line by line as plain text. */
export const CodeBlock = memo(function CodeBlock({ info, code }: { info: string; code: string }) {
  const { t } = useTranslation()
  const [wrap, setWrap] = useState(false)
  const language = info.split(/\s/)[0] ?? ''
  return (
    <figure className="mb-3 overflow-hidden rounded-panel border border-line bg-sunken">
      <figcaption className="flex h-8 items-center justify-between border-b border-line pr-1 pl-3 font-mono text-meta text-text-2">
        <span>{language || t('block.code')}</span>
        <span className="flex">
          <button type="button" className="rounded-control p-1.5 hover:text-text" aria-label={t('block.wrap')} title={t('block.wrap')} aria-pressed={wrap} onClick={() => setWrap(!wrap)}>
            <WrapText size={14} strokeWidth={1.5} />
          </button>
          <CopyButton text={code} small />
        </span>
      </figcaption>
      <pre tabIndex={0} className={`overflow-x-auto px-3 py-2 font-mono text-[13px] leading-5 ${wrap ? 'whitespace-pre-wrap' : ''}`} style={{ margin: 0 }}>
        <code>{code}</code>
      </pre>
    </figure>
  )
})

export function CopyButton({ text, small, label }: { text: string; small?: boolean; label?: string }) {
  const { t } = useTranslation()
  const [done, setDone] = useState(false)
  const name = label ?? t('app.copy')
  const copy = async (): Promise<void> => {
    if (await copyText(text)) {
      setDone(true)
      setTimeout(() => setDone(false), 1_500)
    } else {
      toast(t('app.copyFailed'), true)
    }
  }
  const size = small ? 14 : 16
  return (
    <button type="button" className="rounded-control p-1.5 hover:text-text" aria-label={done ? t('app.copied') : name} title={name} onClick={() => void copy()}>
      {done ? <Check size={size} strokeWidth={1.5} /> : <Copy size={size} strokeWidth={1.5} />}
    </button>
  )
}
