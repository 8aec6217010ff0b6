import { expect, it } from 'vitest'
import { placeAfter } from '../src/parts/state'

it('says the place after those who are before it', () => {
  expect(['0', '9', '20+'].map(placeAfter)).toEqual(['1', '10', '21+'])
})
