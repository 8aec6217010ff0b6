import { describe, expect, it } from 'vitest'
import type { ActorView, ShardView } from '../src/api/admin'
import { cells, corner, HEIGHT, owners, shardAt, WIDTH } from '../src/cluster/map'
import { rows } from '../src/cluster/tree'

const actor = (id: string, parent?: string, more: Partial<ActorView> = {}): ActorView => ({
  id, parent, name: `actor ${id}`, state: 'live', queue: 0, restarts: 0, age_seconds: 1, ...more,
})

describe('the map of shards', () => {
  it('finds every shard where it is drawn, and none in the gap', () => {
    for (let shard = 0; shard < 1_280; shard++) {
      const [x, y] = corner(shard)
      expect(shardAt(x + 4, y + 4)).toBe(shard)
      expect(x + 9 <= WIDTH && y + 9 <= HEIGHT).toBe(true)
    }
    expect(shardAt(5, 322)).toBeNull()
    expect(shardAt(-1, 5)).toBeNull()
    expect(shardAt(5, HEIGHT)).toBeNull()
  })
  it('draws a cell per shard and names owners in one order', () => {
    const shard = (n: number, owner?: string): ShardView => ({ shard: n, owner, epoch: 1, state: 'owned' })
    expect(cells([shard(0), shard(33)])).toBe('M0 0h9v9h-9zM10 10h9v9h-9z')
    expect(owners([shard(1, 'b'), shard(2)], [{ name: 'c' }, { name: 'a' }])).toEqual(['a', 'b', 'c'])
  })
})

describe('the tree of actors', () => {
  const all = [actor('1'), actor('2', '1', { queue: 3 }), actor('3', '2', { entity: 'task/abc', restarts: 2 }), actor('9', 'gone')]
  const of = (o: Partial<Parameters<typeof rows>[1]>) =>
    rows(all, { order: 'tree', text: '', open: new Set(['1', '2']), ...o }).map((r) => `${' '.repeat(r.depth)}${r.actor.id}/${r.below}`)
  it('shows what is open, and orphans at the top', () => {
    expect(of({})).toEqual(['1/1', ' 2/1', '  3/0', '9/0'])
    expect(of({ open: new Set(['1']) })).toEqual(['1/1', ' 2/1', '9/0'])
    expect(of({ open: new Set() })).toEqual(['1/1', '9/0'])
  })
  it('is flat when it is searched or ordered', () => {
    expect(of({ text: 'ABC' })).toEqual(['3/0'])
    expect(of({ order: 'queue' })[0]).toBe('2/0')
    expect(of({ order: 'restarts', text: 'task' })).toEqual(['3/0'])
  })
})
