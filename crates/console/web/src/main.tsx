import { QueryClient, QueryClientProvider } from '@tanstack/react-query'
import { RouterProvider } from '@tanstack/react-router'
import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { makeRouter } from './app/router'
import { startTheme } from './app/theme'
import { startWords } from './i18n'
import './styles/main.css'

const queries = new QueryClient({
  defaultOptions: {
    queries: { staleTime: 10_000, retry: 2, refetchOnWindowFocus: true },
    mutations: { retry: false },
  },
})

startTheme()
await startWords()
createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <QueryClientProvider client={queries}>
      <RouterProvider router={makeRouter(queries)} />
    </QueryClientProvider>
  </StrictMode>,
)
