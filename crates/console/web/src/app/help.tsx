// The keys of the page that is open, and what may be chosen about them.

import { X } from 'lucide-react'
import { Dialog } from 'radix-ui'
import { useState } from 'react'
import { useTranslation } from 'react-i18next'
import { allCommands } from './commands'
import { Keys } from './keycap'
import { PREFS, setPref, usePref } from './prefs'
import type { Pref } from './prefs'

export function Help({ close }: { close: () => void }) {
  const { t } = useTranslation()
  const [commands] = useState(() => allCommands().filter((c) => c.keys))
  const fixed: [string, string][] = [
    ['mod+k', t('keys.palette')],
    ['Enter', t('keys.send')],
    ['Esc', t('keys.leave')],
    ['↑', t('keys.editLast')],
  ]
  return (
    <Dialog.Root open onOpenChange={(is) => !is && close()}>
      <Dialog.Portal>
        <Dialog.Overlay className="fixed inset-0 z-40 bg-[rgb(0_0_0/30%)]" />
        <Dialog.Content
          aria-describedby={undefined}
          className="fixed top-[8vh] left-1/2 z-50 max-h-[84vh] w-[min(94vw,640px)] -translate-x-1/2 overflow-y-auto rounded-dialog border border-line bg-surface p-5 shadow-pop max-md:top-2"
        >
          <div className="mb-3 flex items-center justify-between">
            <Dialog.Title className="text-section font-semibold">{t('keys.title')}</Dialog.Title>
            <Dialog.Close className="btn-glyph" aria-label={t('app.close')} title={t('app.close')}>
              <X size={16} strokeWidth={1.5} />
            </Dialog.Close>
          </div>
          <dl className="grid gap-x-8 md:grid-cols-2">
            {[...commands.map((c) => [c.keys!, c.label] as const), ...fixed].map(([keys, label]) => (
              <div key={keys} className="flex min-h-8 items-center justify-between gap-3 border-b border-line py-1">
                <dt>{label}</dt>
                <dd>
                  <Keys keys={keys} />
                </dd>
              </div>
            ))}
          </dl>
          <h3 className="mt-5 mb-1 font-semibold">{t('keys.choices')}</h3>
          {PREFS.map((name) => (
            <Choice key={name} name={name} />
          ))}
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  )
}

function Choice({ name }: { name: Pref }) {
  const { t } = useTranslation()
  const on = usePref(name)
  return (
    <label className="flex min-h-8 cursor-pointer items-center gap-3 py-1">
      <input type="checkbox" className="size-4 accent-accent" checked={on} onChange={(e) => setPref(name, e.target.checked)} />
      {t(`keys.prefs.${name}`)}
    </label>
  )
}
