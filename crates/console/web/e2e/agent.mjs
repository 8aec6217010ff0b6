// A real agent on the node's own machine, with a model that does what the prompt says.

import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { BIN, until } from './node.mjs'

/** A program that cargo builds beside the node's. */
export const beside = (name) => join(dirname(BIN), name)

/** What a scenario gives back that lacks a program. */
export const SKIPPED = 'skipped'

/** Where the agents are installed; null: the scenario is skipped. */
export function runtimes() {
  const dir = process.env.TROUPE_TEST_RUNTIMES
  const there = dir !== undefined && existsSync(join(dir, 'claude-code')) && existsSync(beside('troupe-fake-model'))
  return there ? dir : null
}

/** Gives the node's machine an agent; to be called before it starts. */
export function withAgent(node, dir) {
  const home = join(node.dir, 'home')
  mkdirSync(home)
  node.env = { PATH: [join(dir, 'claude-code/node_modules/.bin'), join(dir, 'agno/bin'), process.env.PATH].join(':'), HOME: home }
}

/** Steers the fake model: it calls this tool once, then says a sentence. What it is to pass on may steer it there. */
export const calls = (tool, args, more = '') => {
  const inner = JSON.stringify(args).replaceAll('[[', '[\\u005b').replaceAll(']]', ']\\u005d')
  return `[[fake tool=${tool} ${more} args=${inner}]] Do it`
}

/** The Teams `devs`: one member, Claude Code; and `agnos`: a leader and a hand on Agno. All have the fake model. */
export async function team(node, close) {
  const ready = join(node.dir, 'model.json')
  const child = spawn(beside('troupe-fake-model'), ['--ready-file', ready], { stdio: 'ignore' })
  const ended = new Promise((done) => child.on('exit', done))
  close.push(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const { url } = await until('the model is ready', () => existsSync(ready) && JSON.parse(readFileSync(ready, 'utf8')))
  const document = (kind, name, spec) => ({ apiVersion: 'agent.wecode.io/v1', kind, metadata: { name, namespace: 'default' }, spec })
  for (const body of [
    document('Shell', 'claude', { shellType: 'ClaudeCode' }),
    document('Model', 'fake', { modelConfig: { env: { model: 'claude', model_id: 'fake-model', api_key: 'none', base_url: url } } }),
    document('Ghost', 'dev', { systemPrompt: 'You are dev.' }),
    document('Bot', 'dev', { ghostRef: { name: 'dev' }, shellRef: { name: 'claude' }, modelRef: { name: 'fake' } }),
    document('Shell', 'agno', { shellType: 'Agno' }),
    document('Model', 'fake-openai', { modelConfig: { env: { model: 'openai', model_id: 'fake-model', api_key: 'none', base_url: `${url}/v1` } } }),
    document('Bot', 'lead', { ghostRef: { name: 'dev' }, shellRef: { name: 'agno' }, modelRef: { name: 'fake-openai' } }),
    document('Bot', 'hand', { ghostRef: { name: 'dev' }, shellRef: { name: 'agno' }, modelRef: { name: 'fake-openai' } }),
    document('Team', 'agnos', { collaborationModel: 'coordinate', members: [{ botRef: { name: 'lead' } }, { botRef: { name: 'hand' } }] }),
    document('Team', 'devs', { collaborationModel: 'solo', members: [{ botRef: { name: 'dev' } }] }),
  ]) {
    await node.call('/namespaces/default/apply', { method: 'POST', body: JSON.stringify(body) })
  }
  await until('the agent was found', async () => {
    const { items } = await node.call('/devices')
    return items.some((d) => d.status === 'online' && d.tools.some((tool) => tool.name === 'claude'))
  })
}
