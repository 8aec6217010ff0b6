// Where a shard stands on the map: 32 in a row, those of knowledge bases below a gap.

import type { ShardView } from '../api/admin'

export const ACROSS = 32
export const GENERAL = 1_024
const CELL = 10
const GAP = 6

export const WIDTH = ACROSS * CELL
export const HEIGHT = (GENERAL / ACROSS) * CELL + GAP + (256 / ACROSS) * CELL

export function corner(shard: number): [number, number] {
  const down = Math.floor(shard / ACROSS) * CELL
  return [(shard % ACROSS) * CELL, shard < GENERAL ? down : down + GAP]
}

/** The shard at a place of the map; `null`: none. */
export function shardAt(x: number, y: number): number | null {
  if (x < 0 || x >= WIDTH || y < 0 || y >= HEIGHT) return null
  const end = (GENERAL / ACROSS) * CELL
  if (y >= end && y < end + GAP) return null
  const down = y < end ? y : y - GAP
  return Math.floor(down / CELL) * ACROSS + Math.floor(x / CELL)
}

/** One path for many cells. */
export const cells = (shards: readonly ShardView[]): string =>
  shards
    .map(({ shard }) => {
      const [x, y] = corner(shard)
      return `M${x} ${y}h9v9h-9z`
    })
    .join('')

/** Owners in order of their names: the same node has the same mark wherever it is shown. */
export function owners(shards: readonly ShardView[], nodes: readonly { name: string }[]): string[] {
  const names = new Set(nodes.map((n) => n.name))
  for (const { owner } of shards) if (owner !== undefined) names.add(owner)
  return [...names].sort()
}
