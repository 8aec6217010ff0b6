// One line for a machine, and what became of it.

import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { Check, Loader } from 'lucide-react'
import { Dialog } from 'radix-ui'
import { lazy, Suspense, useEffect, useState } from 'react'
import { useTranslation } from 'react-i18next'
import { devices } from '../api/devices'
import type { DeviceView, Invitation } from '../api/devices'
import { CopyButton } from '../parts/copy'
import { wordsOf } from '../parts/toast'
import { useNow } from '../task/hooks'
import { called, leftUntil, toolWords } from './words'

const EVERY_MS = 1_500
/** A machine that did nothing for so long is mostly stuck. */
const STUCK_MS = 20_000

const QrCode = lazy(() => import('qrcode.react').then((m) => ({ default: m.QRCodeSVG })))

export function JoinDialog({ close }: { close: () => void }) {
  const { t } = useTranslation()
  const [made, setMade] = useState<Invitation | null>(null)
  return (
    <Dialog.Root open onOpenChange={(open) => !open && close()}>
      <Dialog.Portal>
        <Dialog.Overlay className="fixed inset-0 z-40 bg-[rgb(0_0_0/40%)]" />
        <Dialog.Content aria-describedby={undefined} className="fixed top-[12vh] left-1/2 z-50 max-h-[80vh] w-[min(92vw,560px)] -translate-x-1/2 overflow-y-auto rounded-dialog border border-line bg-surface p-5 shadow-pop">
          <Dialog.Title className="mb-2 text-section font-semibold">{t('devices.join')}</Dialog.Title>
          {made ? <Line key={made.id} invitation={made} again={() => setMade(null)} close={close} /> : <Ask made={setMade} />}
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  )
}

function Ask({ made }: { made: (invitation: Invitation) => void }) {
  const { t } = useTranslation()
  const [name, setName] = useState('')
  const [address, setAddress] = useState('')
  const invite = useMutation({
    mutationFn: () => devices.invite({ name: name.trim() || undefined, address: address.trim() || undefined }),
    onSuccess: made,
  })
  return (
    <form
      onSubmit={(e) => {
        e.preventDefault()
        invite.mutate()
      }}
    >
      <p className="mb-4 text-text-2">{t('devices.invite.lead')}</p>
      <Field name="device-name" label={t('devices.invite.name')} hint={t('devices.invite.nameHint')} value={name} change={setName} max={48} />
      <Field name="device-address" label={t('devices.invite.address')} hint={t('devices.invite.addressHint')} value={address} change={setAddress} max={255} />
      {invite.isError && (
        <p role="alert" className="mb-3 text-danger">
          {wordsOf(invite.error)}
        </p>
      )}
      <div className="flex justify-end gap-3">
        <Dialog.Close className="btn">{t('app.cancel')}</Dialog.Close>
        <button type="submit" className="btn btn-primary" disabled={invite.isPending}>
          {t('devices.invite.make')}
        </button>
      </div>
    </form>
  )
}

interface FieldProps {
  name: string
  label: string
  hint: string
  value: string
  change: (value: string) => void
  max: number
}

function Field({ name, label, hint, value, change, max }: FieldProps) {
  return (
    <label className="mb-4 block">
      <span className="mb-1 block font-medium">{label}</span>
      <input className="field h-9 max-md:h-11" name={name} value={value} maxLength={max} autoCapitalize="none" spellCheck={false} autoComplete="off" aria-describedby={`${name}-hint`} onChange={(e) => change(e.target.value)} />
      <span id={`${name}-hint`} className="mt-1 block text-meta text-text-3">
        {hint}
      </span>
    </label>
  )
}

interface LineProps {
  invitation: Invitation
  again: () => void
  close: () => void
}

function Line({ invitation, again, close }: LineProps) {
  const { t } = useTranslation()
  const queries = useQueryClient()
  const told = useQuery({
    queryKey: ['invitation', invitation.id],
    queryFn: ({ signal }) => devices.invitation(invitation.id, signal),
    refetchInterval: (query) => (query.state.data?.device?.status === 'online' || (!query.state.data?.device && Date.now() > Date.parse(invitation.expires_at)) ? false : EVERY_MS),
    staleTime: 0,
  })
  const device = told.data?.device
  const now = useNow(device ? null : 1_000)
  const left = leftUntil(invitation.expires_at, now)
  const [since] = useState(() => Date.now())
  const line = `troupe-edge join ${invitation.url}`
  const joined = device?.id
  useEffect(() => {
    if (joined) void queries.invalidateQueries({ queryKey: ['devices'] })
  }, [joined, queries])
  const over = !device && left === null
  return (
    <>
      {!device && !over && (
        <>
          <p className="mb-1 text-meta text-text-3">{t('devices.invite.line')}</p>
          <div className="flex items-start gap-2 rounded-panel border border-line bg-sunken py-1 pr-1 pl-3">
            <code tabIndex={0} className="min-w-0 flex-1 py-1 font-mono break-all">
              {line}
            </code>
            <CopyButton text={line} label={t('devices.invite.copy')} />
          </div>
          <p className="mt-1 mb-4 flex flex-wrap justify-between gap-x-4 text-meta text-text-2">
            <span>{t('devices.invite.secret')}</span>
            <span role="timer" className="tabular-nums">{t('devices.invite.left', { time: left })}</span>
          </p>
          <Suspense fallback={<div className="mb-4 h-45" />}>
            {/* Black on white in both themes: what scans it expects that. */}
            <QrCode value={line} size={180} marginSize={3} role="img" aria-label={t('devices.invite.qr')} title={t('devices.invite.qr')} className="mx-auto mb-4 rounded-panel" />
          </Suspense>
        </>
      )}
      <div role="status" className="mb-4">
        {device ? <Steps device={device} /> : over ? <p className="text-warn">{t('devices.invite.ended')}</p> : <Step text={t('devices.invite.waiting')} />}
        {!device && !over && now - since > STUCK_MS && <p className="mt-2 text-text-2">{t('devices.invite.stuck', { address: new URL(invitation.url).host })}</p>}
      </div>
      {told.isError && !device && (
        <p role="alert" className="mb-3 text-danger">
          {wordsOf(told.error)}
        </p>
      )}
      <div className="flex flex-wrap justify-end gap-3">
        {over && (
          <button type="button" className="btn btn-primary" onClick={again}>
            {t('devices.invite.another')}
          </button>
        )}
        <Dialog.Close className="btn">{t('app.close')}</Dialog.Close>
        {device && (
          <Link to="/devices/$id" params={{ id: device.id }} className="btn btn-primary" onClick={close}>
            {t('devices.invite.show')}
          </Link>
        )}
      </div>
    </>
  )
}

function Steps({ device }: { device: DeviceView }) {
  const { t } = useTranslation()
  const here = device.status === 'online'
  return (
    <>
      <Step done text={t('devices.invite.joined', { name: called(device) })} />
      {here && <Step done text={device.tools.length > 0 ? t('devices.invite.found', { tools: toolWords(device.tools) }) : t('devices.noTools')} />}
      {here ? <Step done text={t('devices.invite.ready', { count: device.slots })} /> : <Step text={t('devices.invite.connecting')} />}
    </>
  )
}

function Step({ text, done = false }: { text: string; done?: boolean }) {
  return (
    <p className="flex items-start gap-2 py-0.5">
      {done ? <Check size={16} strokeWidth={1.5} aria-hidden className="mt-0.5 shrink-0 text-success" /> : <Loader size={16} strokeWidth={1.5} aria-hidden className="arc mt-0.5 shrink-0 text-accent" />}
      <span className="min-w-0">{text}</span>
    </p>
  )
}
