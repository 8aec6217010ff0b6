import { createContext, useContext } from 'react'

/** What rows can ask the page for. */
export interface Actions {
  /** A person opened something: the transcript stays where it is. */
  opened: () => void
  retry: (subtask: string) => void
  /** Which own message is being edited. */
  editing: string | null
  edit: (subtask: string | null) => void
  askForChanges: () => void
}

const ActionsContext = createContext<Actions | null>(null)
export const ActionsProvider = ActionsContext.Provider

export function useActions(): Actions {
  const actions = useContext(ActionsContext)
  if (!actions) throw new Error('rows need a transcript around them')
  return actions
}
