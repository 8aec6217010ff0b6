import { useEffect, useRef } from 'react'

/** How long a page may take until its heading is there. */
const TRIES_MAX = 60

/** A change of page puts the focus on its heading, unless the page put it somewhere itself. */
export function useFocusOnRoute(path: string): void {
  const before = useRef(path)
  useEffect(() => {
    if (before.current === path) return
    const isFirst = before.current === ''
    before.current = path
    if (isFirst) return
    let tries = 0
    let frame = requestAnimationFrame(function look() {
      const content = document.getElementById('content')
      const heading = content?.querySelector<HTMLElement>('h1')
      if (!heading && tries++ < TRIES_MAX) frame = requestAnimationFrame(look)
      else if (heading && !content!.contains(document.activeElement)) heading.focus({ preventScroll: true })
    })
    return () => cancelAnimationFrame(frame)
  }, [path])
}
