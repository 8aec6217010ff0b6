import { ChevronRight } from 'lucide-react'
import { useState } from 'react'
import type { ReactNode } from 'react'
import { useActions } from './actions'

interface FoldProps {
  line: ReactNode
  children: ReactNode
  end?: ReactNode
}

/** A line that opens; the transcript stays where it is. */
export function Fold({ line, end, children }: FoldProps) {
  const actions = useActions()
  const [open, setOpen] = useState(false)
  return (
    <div className="my-0.5">
      <button
        type="button"
        aria-expanded={open}
        className="flex min-h-7 w-full min-w-0 items-center gap-2 rounded-control text-left hover:bg-sunken max-md:min-h-11"
        onClick={() => {
          actions.opened()
          setOpen(!open)
        }}
      >
        <ChevronRight size={16} strokeWidth={1.5} aria-hidden className={`shrink-0 text-text-3 transition-transform duration-[120ms] ${open ? 'rotate-90' : ''}`} />
        <span className="min-w-0 flex-1 truncate">{line}</span>
        {end}
      </button>
      {open && <div className="pb-2 pl-6">{children}</div>}
    </div>
  )
}
