import { memo, useState } from 'react'
import { useTranslation } from 'react-i18next'
import type { Block } from '../api/types'
import { number } from '../i18n/format'
import { useActions } from './actions'
import { textOf } from './ask'
import { Fold } from './fold'
import { filesOf, LINES_MAX, linesOf, totals } from './patch'
import type { DiffFile, PatchLine } from './patch'

const FILES_MAX = 8

/** Files that a tool, or a whole turn, has changed. */
export function Diff({ block }: { block: Block }) {
  const { t } = useTranslation()
  const actions = useActions()
  const [all, setAll] = useState(false)
  const files = filesOf(block)
  const patch = textOf(block.content)
  const sum = totals(files)
  const title = t(block.tool_use_id ? 'diff.title' : 'diff.turn', { count: files.length })
  const shown = all ? files : files.slice(0, FILES_MAX)
  return (
    <div role="group" aria-label={title} className="my-1">
      <p className="flex min-h-7 flex-wrap items-center gap-x-3 font-medium">
        {title}
        <Counts added={sum.added} removed={sum.removed} />
      </p>
      <ul className="border-t border-line">
        {shown.map((file) => (
          <li key={file.path} className="flex min-h-7 items-center gap-3 border-b border-line">
            <span className="min-w-0 flex-1 truncate font-mono" title={file.path}>
              {file.path}
            </span>
            <span className="shrink-0 text-meta text-text-3">{t(`diff.changes.${file.change}`)}</span>
            {file.added === null && file.removed === null ? <span className="shrink-0 text-meta text-text-3">{t('diff.binary')}</span> : <Counts added={file.added ?? 0} removed={file.removed ?? 0} />}
          </li>
        ))}
      </ul>
      {files.length > shown.length && (
        <button
          type="button"
          className="btn-link"
          onClick={() => {
            actions.opened()
            setAll(true)
          }}
        >
          {t('diff.files', { count: files.length - shown.length })}
        </button>
      )}
      {patch !== '' && (
        <Fold line={t('diff.patch')}>
          <PatchLines patch={patch} />
        </Fold>
      )}
      {block.truncated === true && <p className="text-meta text-warn">{t('diff.truncated')}</p>}
    </div>
  )
}

function Counts({ added, removed }: Pick<Required<{ [K in keyof DiffFile]: number }>, 'added' | 'removed'>) {
  const { t } = useTranslation()
  return (
    <span className="flex shrink-0 gap-2 font-mono text-meta tabular-nums">
      <span className="text-success" title={t('diff.added', { count: added })}>{`+${number(added)}`}</span>
      <span className="text-danger" title={t('diff.removed', { count: removed })}>{`−${number(removed)}`}</span>
    </span>
  )
}

const LOOK: Record<PatchLine['sort'], string> = {
  add: 'bg-(--diff-add)',
  del: 'bg-(--diff-del)',
  hunk: 'text-text-2 bg-sunken',
  head: 'font-semibold',
  same: '',
}

/** A unified patch; a line is told by its sign, the colour only repeats it. */
export const PatchLines = memo(function PatchLines({ patch }: { patch: string }) {
  const { t } = useTranslation()
  const [all, setAll] = useState(false)
  const lines = linesOf(patch)
  const shown = all ? lines : lines.slice(0, LINES_MAX)
  return (
    <>
      <pre tabIndex={0} role="group" aria-label={t('diff.lines')} className="max-h-96 overflow-auto rounded-panel border border-line bg-surface py-1 font-mono text-[12px] leading-[18px]">
        <code className="block w-max min-w-full">
          {shown.map((line, i) => (
            <span key={i} className={`block px-3 ${LOOK[line.sort]}`}>
              {line.text === '' ? '\n' : line.text}
            </span>
          ))}
        </code>
      </pre>
      {lines.length > shown.length && (
        <button type="button" className="btn-link mt-1" onClick={() => setAll(true)}>
          {t('diff.all', { count: lines.length - shown.length })}
        </button>
      )}
    </>
  )
})
