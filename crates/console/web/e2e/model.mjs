// A model server that speaks the OpenAI chat format and says what the test wants said.

import { createServer } from 'node:http'

/** `say(prompt)` gives `{ text, piece, pace }`: what is streamed, in pieces of how many characters, how many a second. */
export class Model {
  constructor(say) {
    this.say = say
    this.server = createServer((request, response) => void this.answer(request, response))
  }

  async start() {
    await new Promise((done) => this.server.listen(0, '127.0.0.1', done))
    this.url = `http://127.0.0.1:${this.server.address().port}/v1`
    return this
  }

  async answer(request, response) {
    const parts = []
    for await (const part of request) parts.push(part)
    const { messages } = JSON.parse(Buffer.concat(parts).toString() || '{}')
    const last = messages?.findLast((m) => m.role === 'user')?.content ?? ''
    const prompt = typeof last === 'string' ? last : last.map((p) => p.text ?? '').join('')
    const { text, piece = 24, pace = 0 } = this.say(prompt)
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const tell = (delta, finish = null) =>
      response.write(`data: ${JSON.stringify({ id: 'e2e', object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`)
    tell({ role: 'assistant', content: '' })
    const signs = [...text]
    const began = Date.now()
    for (let at = 0, n = 0; at < signs.length && !response.destroyed; at += piece, n++) {
      tell({ content: signs.slice(at, at + piece).join('') })
      const early = pace > 0 ? began + ((n + 1) * 1000) / pace - Date.now() : 0
      if (early > 1) await new Promise((done) => setTimeout(done, early))
      else if (n % 64 === 0) await new Promise((done) => setImmediate(done))
    }
    tell({}, 'stop')
    response.end('data: [DONE]\n\n')
  }

  /** Makes a node know it; the name is to be given as `force_override_bot_model`. */
  async join(node, name = 'script') {
    const spec = { modelConfig: { env: { model: 'openai', model_id: name, api_key: 'none', base_url: this.url } } }
    const body = JSON.stringify({ apiVersion: 'agent.wecode.io/v1', kind: 'Model', metadata: { name, namespace: 'default' }, spec })
    await node.call('/namespaces/default/apply', { method: 'POST', body })
    return `default/${name}`
  }

  async leave(node, name = 'script') {
    await node.call(`/namespaces/default/models/${name}`, { method: 'DELETE' })
  }

  async close() {
    this.server.closeAllConnections()
    await new Promise((done) => this.server.close(done))
  }
}

/** Every form of Markdown that an answer may have. */
export const RICH = {
  en: `## What changes

The journal keeps **every** frame before it is shown; see [the notes](https://example.org/notes). A line may hold \`code\`, ~~struck~~ and *emphasis*.

1. Read the tail
2. Apply what is missing
   - in order
   - once
3. Answer

\`\`\`rust
/// Frames after \`seq\`, oldest first.
pub fn resume(&self, seq: u64) -> Result<Vec<Frame>, ResumeError> {
    let head = self.head.load(Ordering::Acquire);
    if head.saturating_sub(seq) > 2_000 {
        return Err(ResumeError::Rejoin { head }); // too far behind
    }
    Ok(self.frames.range(seq + 1..=head).cloned().collect())
}
\`\`\`

| Way | Cost | Keeps order |
| --- | ---: | :---: |
| resume | 3 ms | yes |
| join anew | 41 ms | yes |
| start over | 900 ms | no |

> What a person has seen cannot be lost.

\`\`\`bash
troupe attach tsk_01 --after 4212   # goes on where it was
\`\`\`

- [x] seq without gaps
- [ ] nothing else to do
`,
  zh: `## 有什么变化

日志会在显示之前保存**每一帧**，详见[说明](https://example.org/notes)。一行里可以有 \`代码\`、~~删除线~~ 和**“加粗”**文字。

1. 读取尾部
2. 补上缺少的内容
   - 按顺序
   - 只一次
3. 回答

\`\`\`rust
/// seq 之后的帧，从旧到新。
pub fn resume(&self, seq: u64) -> Result<Vec<Frame>, ResumeError> {
    let head = self.head.load(Ordering::Acquire);
    if head.saturating_sub(seq) > 2_000 {
        return Err(ResumeError::Rejoin { head }); // 落后太多
    }
    Ok(self.frames.range(seq + 1..=head).cloned().collect())
}
\`\`\`

| 方式 | 耗时 | 保持顺序 |
| --- | ---: | :---: |
| 续传 | 3 ms | 是 |
| 重新加入 | 41 ms | 是 |
| 从头开始 | 900 ms | 否 |

> 看到过的内容不会丢失。

\`\`\`bash
troupe attach tsk_01 --after 4212   # 从原处继续
\`\`\`

- [x] seq 没有间断
- [ ] 没有别的事
`,
}

/** A long answer with paragraphs, lists, code and tables in turn, `bytes` characters at least. */
export function long(bytes) {
  let text = ''
  for (let n = 1; text.length < bytes; n++) {
    text += `### Part ${n}\n\nParagraph ${n} says **something** about \`frame_${n}\` in a few plain words that go on for a line or two, so that it wraps.\n\n- first of ${n}\n- second of ${n}\n\n`
    if (n % 3 === 0) text += `\`\`\`ts\nexport const part${n} = (x: number): number => x * ${n} // a line\n\`\`\`\n\n`
    if (n % 7 === 0) text += `| a | b |\n| - | - |\n${`| ${n} | wide |\n`.repeat(6)}\n`
  }
  return text
}
