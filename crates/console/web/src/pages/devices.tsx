import { useQuery } from '@tanstack/react-query'
import { Plus } from 'lucide-react'
import { useState } from 'react'
import { useTranslation } from 'react-i18next'
import { devices } from '../api/devices'
import { useCommands } from '../app/commands'
import { JoinDialog } from '../devices/join'
import { DeviceMap } from '../devices/map'
import { DeviceTable } from '../devices/table'
import { Empty, Heading, Skeleton, Trouble } from '../parts/page'

const EVERY_MS = 3_000
const INVITE = 'troupe device invite'

export function DevicesPage() {
  const { t } = useTranslation()
  const [joining, setJoining] = useState(false)
  const list = useQuery({ queryKey: ['devices'], queryFn: ({ signal }) => devices.list(signal), refetchInterval: EVERY_MS, staleTime: 0 })
  useCommands([{ id: 'join', group: 'page', label: t('devices.join'), cli: INVITE, run: () => setJoining(true) }])
  const items = list.data?.items
  return (
    <main className="min-h-0 flex-1 overflow-y-auto">
      <div className="mx-auto max-w-[1120px] px-4 py-4 md:px-6 md:py-6">
        <div className="mb-4 flex flex-wrap items-center justify-between gap-4">
          <Heading>{t('devices.title')}</Heading>
          <button type="button" className="btn btn-primary" onClick={() => setJoining(true)}>
            <Plus size={16} strokeWidth={1.5} aria-hidden />
            {t('devices.join')}
          </button>
        </div>
        {list.isError && items && <Trouble error={list.error} retry={() => void list.refetch()} />}
        {items === undefined ? (
          list.isError ? (
            <Trouble error={list.error} retry={() => void list.refetch()} />
          ) : (
            <Skeleton />
          )
        ) : items.length === 0 ? (
          <Empty text={t('devices.empty')}>
            <p className="text-text-2">{t('devices.emptyHow')}</p>
            <pre tabIndex={0} className="rounded-panel border border-line bg-sunken px-3 py-2 font-mono">
              {INVITE}
            </pre>
          </Empty>
        ) : (
          <>
            <DeviceMap items={items} />
            <DeviceTable items={items} />
          </>
        )}
        {joining && <JoinDialog close={() => setJoining(false)} />}
      </div>
    </main>
  )
}
