// Words: English and Chinese, one bundle each, loaded before the first render.

import i18next from 'i18next'
import { initReactI18next } from 'react-i18next'

export type Lang = 'en' | 'zh'

const load = {
  en: async () => (await import('./en')).en,
  zh: async () => (await import('./zh')).zh,
}

export const currentLang = (): Lang =>
  document.documentElement.lang.startsWith('zh') ? 'zh' : 'en'

export async function startWords(): Promise<void> {
  const lang = currentLang()
  await i18next.use(initReactI18next).init({
    lng: lang,
    fallbackLng: false,
    resources: { [lang]: { translation: await load[lang]() } },
    interpolation: { escapeValue: false },
    returnObjects: false,
  })
}

export async function setLang(lang: Lang): Promise<void> {
  if (!i18next.hasResourceBundle(lang, 'translation')) {
    i18next.addResourceBundle(lang, 'translation', await load[lang]())
  }
  localStorage.setItem('troupe.lang', lang)
  document.documentElement.lang = lang === 'zh' ? 'zh-CN' : 'en'
  await i18next.changeLanguage(lang)
}
