import i18next from 'i18next'
import { renderToStaticMarkup } from 'react-dom/server'
import { initReactI18next } from 'react-i18next'
import { describe, expect, it } from 'vitest'
import { en } from '../src/i18n/en'
import { zh } from '../src/i18n/zh'
import { Note } from '../src/task/interrupted'

const shown = (phase: string, text: string) =>
  renderToStaticMarkup(<Note note={{ at: '2026-12-02T00:00:00Z', phase, text, count: 1 }} />)

describe('what the node says about a running answer', () => {
  it('keeps the text of a warning in every language', async () => {
    const resources = { en: { translation: en }, zh: { translation: zh } }
    await i18next.use(initReactI18next).init({ lng: 'en', fallbackLng: false, resources })
    for (const language of ['en', 'zh']) {
      await i18next.changeLanguage(language)
      expect(shown('warning', 'the files of a Skill are missing')).toContain('the files of a Skill')
    }
    expect(shown('compacting', 'Summing up.')).toContain(zh.note.compacting)
  })
})
