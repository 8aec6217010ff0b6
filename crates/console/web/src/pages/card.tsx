import type { ReactNode } from 'react'
import { useTranslation } from 'react-i18next'
import { currentLang, setLang } from '../i18n'

/** The one card of setup and login. */
export function Card({ title, children }: { title: string; children: ReactNode }) {
  const { t } = useTranslation()
  const other = currentLang() === 'zh' ? 'en' : 'zh'
  return (
    <main className="flex min-h-dvh flex-col items-center justify-center gap-6 p-4">
      <title>{`${title} · Troupe`}</title>
      <div className="flex items-center gap-2.5 text-section font-semibold">
        <img src="/icon.svg" alt="" width={28} height={28} />
        <span translate="no">{NAME}</span>
      </div>
      <div className="w-full max-w-[380px] rounded-dialog border border-line bg-surface p-6">
        <h1 className="mb-4 text-section font-semibold">{title}</h1>
        {children}
      </div>
      <button type="button" className="btn btn-quiet" lang={other} onClick={() => void setLang(other)}>
        {t(`lang.${other}`)}
      </button>
    </main>
  )
}

const NAME = 'Troupe'

interface FieldProps {
  label: string
  name: string
  type?: string
  value: string
  change: (value: string) => void
  autoComplete: string
  hint?: string
  autoFocus?: boolean
}

export function Field({ label, name, type = 'text', value, change, autoComplete, hint, autoFocus }: FieldProps) {
  return (
    <label className="mb-3 block">
      <span className="mb-1 block font-medium">{label}</span>
      <input
        className="field h-9 max-md:h-11"
        name={name}
        type={type}
        value={value}
        required
        autoFocus={autoFocus}
        autoCapitalize="none"
        spellCheck={false}
        autoComplete={autoComplete}
        aria-describedby={hint ? `${name}-hint` : undefined}
        onChange={(e) => change(e.target.value)}
      />
      {hint && (
        <span id={`${name}-hint`} className="mt-1 block text-meta text-text-3">
          {hint}
        </span>
      )}
    </label>
  )
}

export function Fault({ text }: { text: string | null }) {
  return (
    <p role="alert" className={text ? 'mb-3 text-danger' : 'sr-only'}>
      {text}
    </p>
  )
}
