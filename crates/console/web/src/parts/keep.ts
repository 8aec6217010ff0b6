/** Keeps a value, and lets the oldest go when there are more than `most`. */
export function keep<V>(kept: Map<string, V>, key: string, value: V, most: number): void {
  kept.set(key, value)
  if (kept.size > most) kept.delete(kept.keys().next().value!)
}
