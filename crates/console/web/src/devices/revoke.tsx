import { AlertDialog } from 'radix-ui'
import { useState } from 'react'
import { useTranslation } from 'react-i18next'
import { devices } from '../api/devices'
import type { DeviceView } from '../api/devices'
import { wordsOf } from '../parts/toast'

/** For good, so its name has to be written. */
export function Revoke({ device, done }: { device: DeviceView; done: () => void }) {
  const { t } = useTranslation()
  const [asking, setAsking] = useState(false)
  const [typed, setTyped] = useState('')
  const [busy, setBusy] = useState(false)
  const [fault, setFault] = useState<string | null>(null)
  const revoke = async (): Promise<void> => {
    if (typed.trim() !== device.name || busy) return
    setBusy(true)
    setFault(null)
    try {
      await devices.revoke(device.id)
      setAsking(false)
      done()
    } catch (error) {
      setFault(wordsOf(error))
      setBusy(false)
    }
  }
  const open = (value: boolean): void => {
    setTyped('')
    setFault(null)
    setAsking(value)
  }
  return (
    <AlertDialog.Root open={asking} onOpenChange={open}>
      <AlertDialog.Trigger className="btn border-danger text-danger">{t('devices.revoke')}</AlertDialog.Trigger>
      <AlertDialog.Portal>
        <AlertDialog.Overlay className="fixed inset-0 z-40 bg-[rgb(0_0_0/40%)]" />
        <AlertDialog.Content className="fixed top-1/4 left-1/2 z-50 w-[min(92vw,440px)] -translate-x-1/2 rounded-dialog border border-line bg-surface p-5 shadow-pop">
          <AlertDialog.Title className="mb-1 font-semibold">{`${t('devices.revoke')}: ${device.name}`}</AlertDialog.Title>
          <AlertDialog.Description className="mb-4 text-text-2">{t('devices.revokeAsk')}</AlertDialog.Description>
          <form
            onSubmit={(e) => {
              e.preventDefault()
              void revoke()
            }}
          >
            <label className="mb-4 block">
              <span className="mb-1 block font-medium">{t('devices.revokeType', { name: device.name })}</span>
              <input className="field h-9 max-md:h-11" name="confirm" value={typed} autoCapitalize="none" spellCheck={false} autoComplete="off" onChange={(e) => setTyped(e.target.value)} />
            </label>
            {fault && (
              <p role="alert" className="mb-3 text-danger">
                {fault}
              </p>
            )}
            <div className="flex justify-end gap-3">
              <AlertDialog.Cancel className="btn">{t('app.cancel')}</AlertDialog.Cancel>
              <button type="submit" className="btn border-danger text-danger disabled:border-line disabled:text-text-3" disabled={busy || typed.trim() !== device.name}>
                {t('devices.revoke')}
              </button>
            </div>
          </form>
        </AlertDialog.Content>
      </AlertDialog.Portal>
    </AlertDialog.Root>
  )
}
