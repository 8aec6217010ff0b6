// A document of each kind to begin with. Names that are there on every node, so that each applies
// as it stands.

export const TEMPLATES: Record<string, string> = {
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
  shells: `kind: Shell
metadata:
  name: my-shell
spec:
  shellType: Chat
`,
}
