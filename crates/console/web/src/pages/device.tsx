import { useQuery, useQueryClient } from '@tanstack/react-query'
import { getRouteApi, Link, useNavigate } from '@tanstack/react-router'
import { ArrowLeft } from 'lucide-react'
import { useState } from 'react'
import { useTranslation } from 'react-i18next'
import { ApiError } from '../api/auth'
import { devices } from '../api/devices'
import type { DevicePatch, DeviceView, DeviceWork } from '../api/devices'
import { api } from '../api/http'
import { DayStrip } from '../devices/day'
import { PresenceMark, Slots } from '../devices/presence'
import { Revoke } from '../devices/revoke'
import { Settings } from '../devices/settings'
import { called, labelLines, pathWords, systemWords, toolWords } from '../devices/words'
import { age, fullTime } from '../i18n/format'
import { Heading, Skeleton, Trouble } from '../parts/page'
import { State } from '../parts/state'
import { complain, toast } from '../parts/toast'

const route = getRouteApi('/app/devices/$id')
const EVERY_MS = 2_000

export function DevicePage() {
  const { t } = useTranslation()
  const { id } = route.useParams()
  const one = useQuery({ queryKey: ['devices', id], queryFn: ({ signal }) => devices.one(id, signal), refetchInterval: EVERY_MS, staleTime: 0, retry: false })
  const gone = one.error instanceof ApiError && one.error.problem.status === 404
  return (
    <main className="min-h-0 flex-1 overflow-y-auto">
      <div className="mx-auto max-w-[960px] px-4 py-4 md:px-6 md:py-6">
        <Link to="/devices" className="btn btn-quiet mb-2 -ml-3">
          <ArrowLeft size={16} strokeWidth={1.5} aria-hidden />
          {t('devices.back')}
        </Link>
        {gone ? (
          <>
            <Heading>{t('task.goneTitle')}</Heading>
            <p className="mt-2 text-read text-text-2">{t('devices.gone')}</p>
          </>
        ) : one.data ? (
          <One device={one.data} />
        ) : one.isError ? (
          <Trouble error={one.error} retry={() => void one.refetch()} />
        ) : (
          <Skeleton />
        )}
      </div>
    </main>
  )
}

function One({ device }: { device: DeviceView }) {
  const { t } = useTranslation()
  const queries = useQueryClient()
  const navigate = useNavigate()
  const [busy, setBusy] = useState(false)
  const changed = (fresh: DeviceView): void => {
    queries.setQueryData(['devices', device.id], fresh)
    void queries.invalidateQueries({ queryKey: ['devices'] })
  }
  const set = async (patch: DevicePatch): Promise<void> => {
    setBusy(true)
    await devices.change(device.id, patch).then(changed, complain)
    setBusy(false)
  }
  const revoked = async (): Promise<void> => {
    toast(t('devices.revoked', { name: called(device) }))
    await navigate({ to: '/devices' })
    queries.removeQueries({ queryKey: ['devices', device.id] })
    void queries.invalidateQueries({ queryKey: ['devices'] })
  }
  const sentence = device.draining && device.status === 'online' ? 'draining' : device.status
  return (
    <>
      <div className="flex flex-wrap items-center gap-x-4 gap-y-1">
        <Heading>{called(device)}</Heading>
        <PresenceMark device={device} />
        {device.is_default && <span className="text-text-3">{t('devices.preferred')}</span>}
      </div>
      <p className="mt-1 text-text-2">{t(`devices.tells.${sentence}`)}</p>
      <div className="mt-4 flex flex-wrap gap-3">
        <button type="button" className="btn" disabled={busy} onClick={() => void set({ draining: !device.draining })}>
          {t(device.draining ? 'devices.undrain' : 'devices.drain')}
        </button>
        <button type="button" className="btn" disabled={busy} onClick={() => void set({ is_default: !device.is_default })}>
          {t(device.is_default ? 'devices.unprefer' : 'devices.prefer')}
        </button>
        <Revoke device={device} done={() => void revoked()} />
      </div>
      <h2 className="mt-8 mb-2 text-section font-semibold">{t('devices.day.title')}</h2>
      <DayStrip device={device} words />
      <Facts device={device} />
      <h2 className="mt-8 mb-2 text-section font-semibold">{t('devices.work')}</h2>
      {device.work.length === 0 ? (
        <p className="text-text-2">{t('devices.noWork')}</p>
      ) : (
        <ul className="border-t border-line">
          {device.work.map((work) => (
            <Work key={`${work.execution}.${work.attempt}`} work={work} />
          ))}
        </ul>
      )}
      <h2 className="mt-8 mb-3 text-section font-semibold">{t('devices.settings')}</h2>
      <Settings device={device} changed={changed} />
    </>
  )
}

function Facts({ device }: { device: DeviceView }) {
  const { t } = useTranslation()
  const labels = labelLines(device.labels)
  const facts: [string, React.ReactNode][] = [
    [t('devices.name'), device.name],
    [t('devices.slots'), <Slots key="slots" device={device} />],
    [t('devices.tools'), toolWords(device.tools) || t('devices.noTools')],
    [t('devices.system'), systemWords(device) || t('devices.unknown')],
    [t('devices.host'), device.host || t('devices.unknown')],
    [t('devices.node'), device.node ?? '–'],
    [t('devices.path'), device.path ? pathWords(device.path) : '–'],
    [t('devices.agent'), device.build || t('devices.unknown')],
    [t('devices.labels'), labels === '' ? t('devices.noLabels') : labels.replaceAll('\n', ', ')],
    [t('devices.enrolled'), fullTime(device.enrolled_at)],
    ...(device.task_id ? ([[t('devices.containerOf'), <OfTask key="task" id={device.task_id} />]] as [string, React.ReactNode][]) : []),
    [t('devices.id'), device.id],
  ]
  return (
    <dl className="mt-6 grid grid-cols-[repeat(auto-fill,minmax(min(100%,220px),1fr))] gap-x-6 gap-y-3">
      {facts.map(([label, value]) => (
        <div key={label} className="min-w-0">
          <dt className="text-meta text-text-3">{label}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  )
}

const useTask = (id: string) => useQuery({ queryKey: ['task-of-work', id], queryFn: () => api.task(id) }).data

function OfTask({ id }: { id: string }) {
  return (
    <Link to="/tasks/$id" params={{ id }} className="text-accent underline underline-offset-2">
      {useTask(id)?.title ?? id}
    </Link>
  )
}

function Work({ work }: { work: DeviceWork }) {
  const { t } = useTranslation()
  const task = useTask(work.task_id)
  return (
    <li className="border-b border-line">
      <Link to="/tasks/$id" params={{ id: work.task_id }} className="flex min-h-9 flex-wrap items-center gap-x-4 rounded-control px-2 hover:bg-sunken max-md:min-h-11">
        <span className="min-w-0 flex-1 truncate font-medium">{task?.title ?? work.task_id}</span>
        {task && <State status={task.status} />}
        <span className="font-mono text-meta text-text-3 tabular-nums">{work.taken ? t('devices.since', { time: age(work.since) }) : t('devices.notTaken')}</span>
      </Link>
    </li>
  )
}
