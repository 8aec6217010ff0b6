import { useNavigate } from '@tanstack/react-router'
import { Check, CircleUser } from 'lucide-react'
import { DropdownMenu } from 'radix-ui'
import type { ReactNode } from 'react'
import { useTranslation } from 'react-i18next'
import { currentUser, logout } from '../api/auth'
import { currentLang, setLang } from '../i18n'
import type { Lang } from '../i18n'
import { openHelp, openPalette } from './keys'
import { setTheme, useTheme } from './theme'
import type { Theme } from './theme'

/** Who is logged in, theme, language, logout. */
export function UserMenu({ wide, icon }: { wide?: boolean; icon?: ReactNode }) {
  const { t } = useTranslation()
  const navigate = useNavigate()
  const user = currentUser()
  const theme = useTheme()
  const leave = async (): Promise<void> => {
    await logout()
    await navigate({ to: '/login', search: {} })
  }
  return (
    <DropdownMenu.Root>
      <DropdownMenu.Trigger
        // What is read begins with what is seen.
        aria-label={`${wide ? user?.user_name : t('nav.menu')}: ${t('user.menu')}`}
        className={
          wide
            ? 'mx-2 flex h-9 items-center justify-center gap-3 rounded-control px-2 text-text-2 hover:bg-sunken wide:justify-start'
            : 'flex min-w-16 flex-col items-center justify-center gap-0.5 text-meta text-text-2'
        }
      >
        {icon ?? <CircleUser size={16} strokeWidth={1.5} />}
        <span className={wide ? 'sr-only truncate wide:not-sr-only' : ''}>
          {wide ? user?.user_name : t('nav.menu')}
        </span>
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content
          align="start"
          side="top"
          sideOffset={6}
          collisionPadding={8}
          className="z-40 min-w-52 rounded-panel border border-line bg-surface p-1 shadow-pop"
        >
          <DropdownMenu.Label className="px-3 py-1.5 text-meta text-text-3">
            {user?.user_name}
            {user?.role === 'admin' && ` · ${t('user.admin')}`}
          </DropdownMenu.Label>
          <Choice
            label={t('theme.label')}
            value={theme}
            options={(['system', 'light', 'dark'] as const).map((v) => [v, t(`theme.${v}`)])}
            choose={(v) => setTheme(v as Theme)}
          />
          <Choice
            label={t('lang.label')}
            value={currentLang()}
            options={(['en', 'zh'] as const).map((v) => [v, t(`lang.${v}`)])}
            choose={(v) => void setLang(v as Lang)}
          />
          <DropdownMenu.Separator className="my-1 h-px bg-line" />
          <DropdownMenu.Item className={`${ITEM} md:hidden`} onSelect={() => setTimeout(openPalette)}>
            {t('palette.open')}
          </DropdownMenu.Item>
          {user?.role === 'admin' && (
            <DropdownMenu.Item className={`${ITEM} md:hidden`} onSelect={() => void navigate({ to: '/ops/cluster' })}>
              {t('nav.cluster')}
            </DropdownMenu.Item>
          )}
          <DropdownMenu.Item className={ITEM} onSelect={() => setTimeout(openHelp)}>
            {t('keys.title')}
          </DropdownMenu.Item>
          <DropdownMenu.Item className={ITEM} onSelect={() => void leave()}>
            {t('user.logout')}
          </DropdownMenu.Item>
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  )
}

const ITEM =
  'flex h-9 cursor-pointer items-center gap-2 rounded-control px-3 text-text outline-none data-highlighted:bg-sunken max-md:h-11'

interface ChoiceProps {
  label: string
  value: string
  options: [string, string][]
  choose: (value: string) => void
}

function Choice({ label, value, options, choose }: ChoiceProps) {
  return (
    <DropdownMenu.RadioGroup value={value} onValueChange={choose} aria-label={label}>
      <DropdownMenu.Separator className="my-1 h-px bg-line" />
      <div className="px-3 pt-1 text-meta text-text-3" aria-hidden>
        {label}
      </div>
      {options.map(([key, text]) => (
        <DropdownMenu.RadioItem key={key} value={key} className={ITEM}>
          <span className="w-4">
            <DropdownMenu.ItemIndicator>
              <Check size={14} strokeWidth={1.5} />
            </DropdownMenu.ItemIndicator>
          </span>
          {text}
        </DropdownMenu.RadioItem>
      ))}
    </DropdownMenu.RadioGroup>
  )
}
