import { Link } from '@tanstack/react-router'
import { useTranslation } from 'react-i18next'
import type { DeviceView } from '../api/devices'
import { DayStrip } from './day'
import { PresenceMark, Slots } from './presence'
import { called, pathWords, systemWords, toolWords } from './words'

const HEAD = 'py-1.5 pr-4 text-left whitespace-nowrap text-meta font-normal text-text-3'
const WIDE = 'max-md:hidden'

export function DeviceTable({ items }: { items: DeviceView[] }) {
  const { t } = useTranslation()
  return (
    <table className="w-full border-t border-line">
      <caption className="sr-only">{t('devices.title')}</caption>
      <thead>
        <tr className="border-b border-line">
          <th scope="col" className={`${HEAD} pl-2`}>{t('devices.name')}</th>
          <th scope="col" className={HEAD}>{t('devices.status')}</th>
          <th scope="col" className={HEAD}>{t('devices.slots')}</th>
          <th scope="col" className={`${HEAD} ${WIDE}`}>{t('devices.tools')}</th>
          <th scope="col" className={`${HEAD} ${WIDE}`}>{t('devices.system')}</th>
          <th scope="col" className={`${HEAD} ${WIDE}`}>{t('devices.node')}</th>
          <th scope="col" className={`${HEAD} ${WIDE}`}>{t('devices.path')}</th>
          <th scope="col" className={`${HEAD} max-wide:hidden`}>{t('devices.day.short')}</th>
        </tr>
      </thead>
      <tbody>
        {items.map((device) => (
          <Row key={device.id} device={device} />
        ))}
      </tbody>
    </table>
  )
}

function Row({ device }: { device: DeviceView }) {
  const { t } = useTranslation()
  const tools = toolWords(device.tools) || t('devices.noTools')
  return (
    <tr className="border-b border-line align-top hover:bg-sunken">
      <th scope="row" className="py-2 pr-4 pl-2 text-left font-normal">
        <Link to="/devices/$id" params={{ id: device.id }} data-row className="inline-flex min-h-6 min-w-8 items-center font-medium text-accent underline underline-offset-2 max-md:min-h-9">
          {called(device)}
        </Link>
        {device.is_default && <span className="ml-2 text-meta text-text-3">{t('devices.preferred')}</span>}
        {device.alias && <span className="block font-mono text-meta text-text-3">{device.name}</span>}
        <span className="block text-meta text-text-2 md:hidden">{tools}</span>
      </th>
      <td className="py-2 pr-4 leading-6">
        <PresenceMark device={device} />
      </td>
      <td className="py-2 pr-4 leading-6">
        <Slots device={device} />
      </td>
      <td className={`py-2 pr-4 leading-6 text-text-2 ${WIDE}`}>{tools}</td>
      <td className={`py-2 pr-4 leading-6 whitespace-nowrap text-text-2 ${WIDE}`}>{systemWords(device) || t('devices.unknown')}</td>
      <td className={`py-2 pr-4 font-mono leading-6 text-text-2 ${WIDE}`}>{device.node ?? '–'}</td>
      <td className={`py-2 pr-4 leading-6 whitespace-nowrap text-text-2 tabular-nums ${WIDE}`}>{device.path ? pathWords(device.path) : '–'}</td>
      <td className="py-2 pr-2 max-wide:hidden">
        <span className="flex h-6 items-center">
          <DayStrip device={device} />
        </span>
      </td>
    </tr>
  )
}
