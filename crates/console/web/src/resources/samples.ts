// A document of each kind to begin with. Names that are there on every node, so that each applies
// as it stands.

const SKILL = `kind: Skill
metadata:
  name: brief
spec:
  description: How to answer briefly.
  prompt: |
    One sentence for what is the case, one for what to do.
`

export const KINDS = ['teams', 'templates', 'bots', 'ghosts', 'skills', 'skillbindings', 'models', 'shells'] as const

export const SAMPLES: Record<string, string> = {
  teams: `kind: Team
metadata:
  name: my-team
  displayName: My team
spec:
  description: One member plans, another one builds.
  collaborationModel: pipeline
  members:
    - botRef: {name: planner}
      requireConfirmation: true
    - botRef: {name: builder}
      contextPassing: original_and_previous
`,
  bots: `kind: Bot
metadata:
  name: my-bot
  displayName: My bot
spec:
  ghostRef: {name: assistant}
  shellRef: {name: Chat}
`,
  ghosts: `kind: Ghost
metadata:
  name: my-ghost
spec:
  systemPrompt: |
    You answer briefly, and in the language of the question.
`,
  models: `kind: Model
metadata:
  name: my-model
spec:
  modelConfig:
    env:
      model: openai
      model_id: gpt-5
      base_url: https://models.example.org/v1
      api_key: put-the-key-here
`,
  templates: `kind: Template
metadata:
  name: standup
  displayName: Daily report
spec:
  description: A team of one that says in five lines what was done.
  ghosts:
    standup:
      systemPrompt: Say what was done, in five lines at most.
  bots:
    standup:
      ghostRef: {name: standup}
      shellRef: {name: Chat}
  teams:
    standup:
      collaborationModel: solo
      members:
        - botRef: {name: standup}
`,
  skills: SKILL,
  skillbindings: `${SKILL}---
kind: SkillBinding
metadata:
  name: brief
spec:
  skillRef: {name: brief}
  enabled: true
`,
  shells: `kind: Shell
metadata:
  name: my-shell
spec:
  shellType: Chat
`,
}
