const isMac = /Mac|iP(hone|ad)/.test(navigator.platform)

/** "g t" as two caps, "mod+k" as Ctrl K or ⌘ K. */
export function Keys({ keys }: { keys: string }) {
  const caps = keys.split(/[ +]/).map((key) => (key === 'mod' ? (isMac ? '⌘' : 'Ctrl') : key.length === 1 ? key.toUpperCase() : key))
  return (
    <span className="inline-flex shrink-0 gap-1">
      {caps.map((cap, i) => (
        <kbd key={i} className="inline-flex h-5 min-w-5 items-center justify-center rounded-control border border-line bg-sunken px-1 font-mono text-meta text-text-2">
          {cap}
        </kbd>
      ))}
    </span>
  )
}
