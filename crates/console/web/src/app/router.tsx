import type { QueryClient } from '@tanstack/react-query'
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
} from '@tanstack/react-router'
import { currentUser, refresh } from '../api/auth'
import { Failed, NotFound, Pending } from './fallbacks'
import { Shell } from './shell'
import { Toasts } from '../parts/toast'

interface Context {
  queries: QueryClient
}

const root = createRootRouteWithContext<Context>()({
  component: () => (
    <>
      <Outlet />
      <Toasts />
    </>
  ),
  notFoundComponent: NotFound,
  errorComponent: Failed,
})

const text = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' ? value : undefined

const setup = createRoute({
  getParentRoute: () => root,
  path: '/setup',
  // Numbers and words in the address are parsed as JSON: a token may look like a number.
  validateSearch: (s: Record<string, unknown>): { token?: string } => ({
    token: s.token === undefined ? undefined : String(s.token as string | number),
  }),
  component: lazyRouteComponent(() => import('../pages/setup'), 'SetupPage'),
})

const login = createRoute({
  getParentRoute: () => root,
  path: '/login',
  validateSearch: (s: Record<string, unknown>): { next?: string } => ({ next: text(s.next) }),
  component: lazyRouteComponent(() => import('../pages/login'), 'LoginPage'),
})

const app = createRoute({
  getParentRoute: () => root,
  id: 'app',
  beforeLoad: async ({ location }) => {
    if (currentUser() || (await refresh())) return
    const next = location.href === '/' ? undefined : location.href
    throw redirect({ to: '/login', search: { next }, replace: true })
  },
  pendingComponent: Pending,
  pendingMs: 200,
  errorComponent: Failed,
  component: Shell,
})

const home = createRoute({
  getParentRoute: () => app,
  path: '/',
  beforeLoad: () => {
    throw redirect({ to: '/tasks', replace: true })
  },
})

export interface TaskFilter {
  show?: 'active' | 'needs-you' | 'done' | 'failed'
  text?: string
}

const filters = ['active', 'needs-you', 'done', 'failed'] as const

const tasks = createRoute({
  getParentRoute: () => app,
  path: '/tasks',
  validateSearch: (s: Record<string, unknown>): TaskFilter => ({
    show: filters.find((f) => f === s.show),
    text: s.text === undefined ? undefined : String(s.text as string | number),
  }),
  component: lazyRouteComponent(() => import('../pages/tasks'), 'TasksPage'),
})

const inbox = createRoute({
  getParentRoute: () => app,
  path: '/inbox',
  component: lazyRouteComponent(() => import('../pages/inbox'), 'InboxPage'),
})

const newTask = createRoute({
  getParentRoute: () => app,
  path: '/tasks/new',
  validateSearch: (s: Record<string, unknown>): { team?: string; prompt?: string } => ({
    team: text(s.team),
    prompt: text(s.prompt),
  }),
  component: lazyRouteComponent(() => import('../pages/new-task'), 'NewTaskPage'),
})

const task = createRoute({
  getParentRoute: () => app,
  path: '/tasks/$id',
  component: lazyRouteComponent(() => import('../pages/task'), 'TaskPage'),
})

const plain = createRoute({
  getParentRoute: () => app,
  path: '/tasks/$id/plain',
  component: lazyRouteComponent(() => import('../pages/plain'), 'PlainPage'),
})

const resources = createRoute({
  getParentRoute: () => app,
  path: '/resources/$kind',
  component: lazyRouteComponent(() => import('../pages/resources'), 'ResourcesPage'),
})

const devices = createRoute({
  getParentRoute: () => app,
  path: '/devices',
  component: lazyRouteComponent(() => import('../pages/devices'), 'DevicesPage'),
})

const device = createRoute({
  getParentRoute: () => app,
  path: '/devices/$id',
  component: lazyRouteComponent(() => import('../pages/device'), 'DevicePage'),
})

const cluster = createRoute({
  getParentRoute: () => app,
  path: '/ops/cluster',
  component: lazyRouteComponent(() => import('../pages/cluster'), 'ClusterPage'),
})

const tree = root.addChildren([
  setup,
  login,
  app.addChildren([home, inbox, tasks, newTask, task, plain, devices, device, resources, cluster]),
])

export function makeRouter(queries: QueryClient) {
  return createRouter({
    routeTree: tree,
    context: { queries },
    defaultPreload: 'intent',
    defaultPendingMs: 200,
    defaultNotFoundComponent: NotFound,
    scrollRestoration: false,
  })
}

declare module '@tanstack/react-router' {
  interface Register {
    router: ReturnType<typeof makeRouter>
  }
}
