import { useState } from 'react'
import { useTranslation } from 'react-i18next'
import { devices } from '../api/devices'
import type { DevicePatch, DeviceView } from '../api/devices'
import { toast, wordsOf } from '../parts/toast'
import { labelLines, labelsOf } from './words'

const SLOTS_MAX = 20

/** What its owner may say of it. Only what was changed is sent. */
export function Settings({ device, changed }: { device: DeviceView; changed: (device: DeviceView) => void }) {
  const { t } = useTranslation()
  const [alias, setAlias] = useState<string | null>(null)
  const [slots, setSlots] = useState<string | null>(null)
  const [labels, setLabels] = useState<string | null>(null)
  const [busy, setBusy] = useState(false)
  const [fault, setFault] = useState<string | null>(null)
  const dirty = alias !== null || slots !== null || labels !== null

  const patch = (): DevicePatch | string => {
    const out: DevicePatch = {}
    if (alias !== null) out.alias = alias.trim()
    if (slots !== null) {
      out.slots = Number(slots)
      if (!Number.isInteger(out.slots) || out.slots < 1 || out.slots > SLOTS_MAX) return t('devices.badSlots')
    }
    if (labels !== null) {
      const read = labelsOf(labels)
      if ('line' in read) return t('devices.badLabel', { line: read.line })
      out.labels = read.labels
    }
    return out
  }
  const save = async (): Promise<void> => {
    const body = patch()
    if (typeof body === 'string') return setFault(body)
    setBusy(true)
    setFault(null)
    try {
      changed(await devices.change(device.id, body))
      setAlias(null)
      setSlots(null)
      setLabels(null)
      toast(t('devices.saved'))
    } catch (error) {
      setFault(wordsOf(error))
    } finally {
      setBusy(false)
    }
  }
  return (
    <form
      className="max-w-[480px]"
      onSubmit={(e) => {
        e.preventDefault()
        void save()
      }}
    >
      <label className="mb-4 block">
        <span className="mb-1 block font-medium">{t('devices.alias')}</span>
        <input className="field h-9 max-md:h-11" name="alias" value={alias ?? device.alias} maxLength={48} autoCapitalize="none" autoComplete="off" aria-describedby="alias-hint" onChange={(e) => setAlias(e.target.value)} />
        <span id="alias-hint" className="mt-1 block text-meta text-text-3">{t('devices.aliasHint')}</span>
      </label>
      <label className="mb-4 block">
        <span className="mb-1 block font-medium">{t('devices.slots')}</span>
        <input className="field h-9 max-md:h-11" name="slots" type="number" min={1} max={SLOTS_MAX} value={slots ?? device.slots} aria-describedby="slots-hint" onChange={(e) => setSlots(e.target.value)} />
        <span id="slots-hint" className="mt-1 block text-meta text-text-3">{t('devices.slotsHint')}</span>
      </label>
      <label className="mb-4 block">
        <span className="mb-1 block font-medium">{t('devices.labels')}</span>
        <textarea className="field font-mono max-md:text-[16px]" name="labels" rows={4} value={labels ?? labelLines(device.labels)} spellCheck={false} aria-describedby="labels-hint" onChange={(e) => setLabels(e.target.value)} />
        <span id="labels-hint" className="mt-1 block text-meta text-text-3">{t('devices.labelsHint')}</span>
      </label>
      <p role="alert" className={fault ? 'mb-3 text-danger' : 'sr-only'}>
        {fault}
      </p>
      <button type="submit" className="btn btn-primary" disabled={busy || !dirty}>
        {t('app.save')}
      </button>
    </form>
  )
}
