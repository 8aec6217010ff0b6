import { Check, Copy } from 'lucide-react'
import { useState } from 'react'
import { useTranslation } from 'react-i18next'
import { copyText } from './ids'
import { toast } from './toast'

interface CopyButtonProps {
  text: string
  small?: boolean
  label?: string
}

/** Copies the stored source, never what the page made of it. */
export function CopyButton({ text, small, label }: CopyButtonProps) {
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
    <button type="button" className="btn-glyph" aria-label={done ? t('app.copied') : name} title={name} onClick={() => void copy()}>
      {done ? <Check size={size} strokeWidth={1.5} className="text-success" /> : <Copy size={size} strokeWidth={1.5} />}
    </button>
  )
}
