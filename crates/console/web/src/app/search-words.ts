// Finds commands by words, by the beginnings of words, and Chinese ones by their initials.

const LETTERS = 'abcdefghjklmnopqrstwxyz'
/** The first character of each letter in the order of Chinese collation. */
const FIRST = [...'阿八嚓哒妸发旮哈讥咔垃妈拏噢妑七呥仨他屲夕丫帀']
const collator = new Intl.Collator('zh-CN')

/** "运行" is "yx"; signs that are not Chinese stay. */
export function initials(text: string): string {
  return [...text]
    .map((sign) => {
      if (!/\p{Script=Han}/u.test(sign)) return sign
      let at = FIRST.length - 1
      while (at > 0 && collator.compare(sign, FIRST[at]!) < 0) at--
      return LETTERS[at]!
    })
    .join('')
}

/** 0: not found; the nearer to 1, the better. */
export function score(text: string, wanted: string): number {
  const search = wanted.trim().toLowerCase()
  if (search === '') return 1
  const value = text.toLowerCase()
  if (value.startsWith(search)) return 1
  if (value.includes(` ${search}`)) return 0.9
  if (value.includes(search)) return 0.8
  const words = search.split(/\s+/)
  if (words.length > 1 && words.every((word) => value.includes(word))) return 0.7
  if (/\p{Script=Han}/u.test(value) && initials(value).includes(search.replaceAll(' ', ''))) return 0.6
  const firsts = value.split(/[\s,.]+/).map((word) => word[0] ?? '').join('')
  return search.length > 1 && firsts.includes(search) ? 0.5 : 0
}
