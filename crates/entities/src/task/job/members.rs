//! The members of a Team that its runtime runs as one of its own, as a device is told of them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use troupe_chat::prompt;
use troupe_domain::task::{MemberPlan, SkillPlan, TeamPlan, Work};
use troupe_executor::{SkillText, TeamMember};

use super::{MODEL_KEY, instructions, model, servers::servers};

/// All but the leader, if the Team [runs as one](TeamPlan::runs_as_one); else none. Their sealed
/// values go to `secrets`.
pub(super) fn members(
    plan: &TeamPlan,
    variables: &Map<String, Value>,
    secrets: &mut BTreeMap<String, String>,
) -> Vec<TeamMember> {
    if !plan.runs_as_one() {
        return Vec::new();
    }
    let names = plan.choices();
    let others = (0_u32..).zip(&plan.members).filter(|(index, _)| *index != plan.leader);
    let one = |(name, (index, member)): (String, (u32, &MemberPlan))| {
        let part = Work::Item { item: index, instructions: String::new() };
        let own = (member.model != plan.member(plan.leader)?.model).then_some(member);
        let (model, key) = own.map_or((None, None), |m| model(m, &format!("{MODEL_KEY}_{index}")));
        secrets.extend(key);
        Some(TeamMember {
            name,
            role: prompt::role(member),
            instructions: instructions(member, prompt::system(plan, index, &part)),
            model,
            mcp_servers: servers(member, variables, secrets),
        })
    };
    names.into_iter().zip(others).filter_map(one).collect()
}

/// The Skills of the Bot, and of all members if the Team runs as one. A member's Skill whose name
/// means another one already is `NAME_2`.
pub(super) fn skill_texts(plan: &TeamPlan, member: &MemberPlan) -> Vec<SkillText> {
    let mut all: Vec<SkillText> = member.skill_texts.iter().map(skill).collect();
    let others = plan.members.iter().filter(|_| plan.runs_as_one());
    for one in others.flat_map(|m| m.skill_texts.iter().map(skill)) {
        let mut named = one.clone();
        for n in 2.. {
            match all.iter().find(|there| there.name == named.name) {
                None => {
                    all.push(named);
                    break;
                }
                Some(there) if *there == named => break,
                Some(_) => named.name = format!("{}_{n}", one.name),
            }
        }
    }
    all
}

fn skill(skill: &SkillPlan) -> SkillText {
    let SkillPlan { name, description, text, preload: _, package } = skill.clone();
    SkillText { name, description, text, package }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn member(name: &str, more: &Value) -> Value {
        let mut member = json!({"name": name, "shell_type": "Agno", "system_prompt": "Be kind.",
            "prompt": "", "require_confirmation": false, "context_passing": "none",
            "mcp_servers": {}, "skills": []});
        member.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        member
    }

    fn plan(members: &[Value]) -> TeamPlan {
        let plan = json!({"hash": "", "name": "t", "namespace": "default", "display_name": "",
            "model": "coordinate", "max_rounds": 1, "max_concurrent_tasks": 1, "leader": 1,
            "members": members});
        serde_json::from_value(plan).unwrap()
    }

    fn model(key: &str) -> Value {
        json!({"model": {"name": "m", "provider": "openai", "model_id": "m", "headers": {},
            "base_url": "http://127.0.0.1/v1", "sealed_key": key, "context_window": 1,
            "trusted": false}})
    }

    #[test]
    fn each_has_its_own_model_and_key() {
        let all = [("twice", "a"), ("lead", "a"), ("twice", "b")];
        let plan =
            plan(&all.map(|(name, key)| member(name, &model(&format!("sealed:v1:k:{key}")))));
        let mut secrets = BTreeMap::new();
        let told = members(&plan, &Map::new(), &mut secrets);
        let keys = told.iter().map(|m| m.model.as_ref().and_then(|m| m.key.clone()));
        let names: Vec<_> = told.iter().map(|m| m.name.as_str()).zip(keys).collect();
        assert_eq!(names, [("twice#0", None), ("twice#2", Some("model_key_2".to_owned()))]);
        assert_eq!(secrets, BTreeMap::from([("model_key_2".into(), "sealed:v1:k:b".into())]));
        assert!(told.iter().all(|m| m.instructions.starts_with("Be kind.")));
    }

    #[test]
    fn a_skill_of_the_same_name_is_another_ones() {
        let skill = |text: &str| {
            json!({"skill_texts": [{"name": "s", "description": "d",
            "text": text, "preload": true}]})
        };
        let plan = plan(&[
            member("same", &skill("one")),
            member("lead", &skill("one")),
            member("other", &skill("two")),
        ]);
        let all = skill_texts(&plan, &plan.members[1]);
        let all: Vec<_> = all.iter().map(|s| (s.name.as_str(), s.text.as_str())).collect();
        assert_eq!(all, [("s", "one"), ("s_2", "two")]);
    }
}
