import { useQuery } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { ChevronRight } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { api } from '../api/http'
import type { Resource } from '../api/types'
import { CodeBlock } from '../parts/code'
import { Empty, Heading, Skeleton, Trouble } from '../parts/page'
import { Apply } from '../resources/apply'
import { Instantiate } from '../resources/instantiate'
import { KINDS, SAMPLES } from '../resources/samples'

const route = getRouteApi('/app/resources/$kind')

export function ResourcesPage() {
  const { t, i18n } = useTranslation()
  const { kind } = route.useParams()
  const list = useQuery({ queryKey: [kind], queryFn: ({ signal }) => api.list(kind, signal) })
  const items = list.data?.items ?? []
  return (
    <main className="min-h-0 flex-1 overflow-y-auto">
      <div className="mx-auto max-w-[960px] px-4 py-4 md:px-6 md:py-6">
        <Heading>{t('resources.title')}</Heading>
        <nav aria-label={t('resources.title')} className="mt-3 mb-4 flex gap-1 overflow-x-auto">
          {KINDS.map((k) => (
            <Link key={k} to="/resources/$kind" params={{ kind: k }} className="btn btn-quiet" activeProps={{ className: 'border-accent bg-accent-weak text-accent' }}>
              {t(`resources.kinds.${k}`)}
            </Link>
          ))}
        </nav>
        {i18n.exists(`resources.about.${kind}`) && <p className="mb-4 max-w-[640px] text-text-2">{t(`resources.about.${kind}`)}</p>}
        {list.isPending ? (
          <Skeleton rows={4} />
        ) : list.isError ? (
          <Trouble error={list.error} retry={() => void list.refetch()} />
        ) : items.length === 0 ? (
          <Empty text={t('resources.empty')} />
        ) : (
          <ul className="border-t border-line">
            {items.map((item) => (
              <One key={`${item.metadata.namespace}/${item.metadata.name}`} item={item} />
            ))}
          </ul>
        )}
        <Apply key={kind} sample={SAMPLES[kind]} />
      </div>
    </main>
  )
}

function One({ item }: { item: Resource }) {
  const { t } = useTranslation()
  const about = item.spec.description
  return (
    <li className="border-b border-line">
      <details className="group">
        <summary className="relative flex min-h-9 cursor-pointer list-none flex-wrap items-center gap-x-3 py-2 pr-2 pl-8 hover:bg-sunken max-md:min-h-12 [&::-webkit-details-marker]:hidden">
          <ChevronRight size={16} strokeWidth={1.5} aria-hidden className="absolute top-2.5 left-2 text-text-3 transition-transform duration-[120ms] group-open:rotate-90" />
          <span className="font-medium">{item.metadata.displayName ?? item.metadata.name}</span>
          <span className="font-mono text-meta text-text-3">{item.metadata.name}</span>
          <span className="text-meta text-text-3">{item.metadata.owner === 'public' ? t('compose.public') : t('compose.mine')}</span>
          {typeof about === 'string' && <span className="basis-full truncate text-text-2">{about}</span>}
        </summary>
        <div className="pr-2 pb-4 pl-8">
          {item.kind === 'Template' && <Instantiate template={item} />}
          <CodeBlock info="json" code={JSON.stringify(item, null, 2)} />
        </div>
      </details>
    </li>
  )
}
