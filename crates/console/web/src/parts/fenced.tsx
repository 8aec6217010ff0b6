// A fence whose end is there: code, a formula or a diagram.

import { lazy, Suspense } from 'react'
import { CodeBlock, languageOf } from './code'
import { Maths } from './maths'

const Drawing = lazy(() => import('./drawing').then((m) => ({ default: m.Drawing })))

export function Fenced({ info, code }: { info: string; code: string }) {
  switch (languageOf(info)) {
    case 'math':
      return <Maths source={code} block />
    case 'mermaid':
      return (
        <Suspense fallback={<CodeBlock info={info} code={code} />}>
          <Drawing source={code} />
        </Suspense>
      )
    default:
      return <CodeBlock info={info} code={code} />
  }
}
