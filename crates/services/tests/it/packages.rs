//! Skills as packages: from a ZIP to a resource, to a turn's plan, and back.

use std::io::{Cursor, Write as _};

use bytes::Bytes;
use serde_json::Value;
use troupe_services::{Caller, Resources as _, SkillUpload};
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::host::{Node, admin, ann, bob, team};

/// A package `sum` whose `SKILL.md` has this front matter and text.
fn package(front: &str, text: &str) -> Bytes {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let main = format!("---\n{front}\n---\n{text}\n");
    for (path, text) in [("sum/SKILL.md", &*main), ("sum/scripts/sum.py", "print(3)")] {
        zip.start_file(path, SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner().into()
}

fn upload(namespace: &str, bytes: &Bytes) -> SkillUpload {
    SkillUpload { id: None, namespace: namespace.to_owned(), name: None, bytes: bytes.clone() }
}

fn id(skill: &Value) -> String {
    skill["metadata"]["uid"].as_str().unwrap().to_owned()
}

async fn told(node: &Node, who: &Caller, front: &str) -> (u16, String) {
    let refused = node.resources.upload_skill(who, upload("default", &package(front, "x"))).await;
    let problem = refused.expect_err("it is refused");
    (problem.status, serde_json::to_string(&problem).unwrap())
}

#[tokio::test]
async fn a_package_becomes_a_skill_that_turns_use_and_comes_out_as_it_went_in() {
    let node = Node::start().await;
    let front = "description: |\n  adds\n  numbers\nlicense: MIT\nname: other\nbindShells: [Chat]\n\
                 version: \"1.0\"";
    let first = package(front, "# Sum\n\nAdd them.");
    let made = node.resources.upload_skill(&ann(), upload("default", &first)).await.unwrap();
    assert_eq!(made["metadata"]["name"], "sum", "as its folder is called");
    assert_eq!(made["spec"]["description"], "adds\nnumbers\n");
    assert_eq!(made["spec"]["prompt"], "# Sum\n\nAdd them.");
    assert_eq!(made["spec"]["source"]["type"], "upload");
    assert_eq!(made["spec"]["license"], Value::Null, "what we do not know is left out");
    assert_eq!(made["status"]["fileSize"], first.len());
    let hash = made["status"]["fileHash"].as_str().unwrap();
    let back = node.resources.skill_package(&ann(), &id(&made)).await.unwrap();
    assert_eq!((&*back.name, &back.bytes, &*back.hash), ("sum", &first, hash));

    let rules = "systemPrompt: You are t.";
    let uses = team("t", "").replace(rules, &format!("{rules}, skills: [sum]"));
    node.applied(&ann(), &uses).await;
    let plan = node.plan(&ann(), "t").await.unwrap();
    assert_eq!(plan.members[0].skill_texts[0].text, "# Sum\n\nAdd them.");
    // What a person applies over it does not take its package away, and invents none.
    let over = "kind: Skill\nmetadata: {name: sum}\nspec: {description: adds, bindShells: [Chat]}\n\
                status: {state: Available, fileHash: \"00\"}\n";
    let over = over.replace("\"00\"", &format!("\"{}\"", "0".repeat(64)));
    node.applied(&ann(), &over).await;
    let kept = node.resources.skill(&ann(), &id(&made)).await.unwrap();
    assert_eq!(
        (&kept["spec"]["prompt"], kept["status"]["fileHash"].as_str()),
        (&Value::Null, Some(hash))
    );

    let second = package("description: adds more\nbindShells: [Chat]", "Add all.");
    let replace = SkillUpload { id: Some(id(&made)), ..upload("nowhere", &second) };
    let other = node.resources.upload_skill(&ann(), replace).await.unwrap();
    assert_eq!((id(&other), &other["spec"]["prompt"]), (id(&made), &"Add all.".into()));
    let back = node.resources.skill_package(&ann(), &id(&made)).await.unwrap();
    assert_eq!(back.bytes, second);

    let used = node.resources.delete_skill(&ann(), &id(&made)).await.unwrap_err();
    assert_eq!((used.status, &*used.code), (409, "in_use"));
    let without = team("t", "");
    node.applied(&ann(), &without).await;
    node.resources.delete_skill(&ann(), &id(&made)).await.unwrap();
    let gone = node.resources.skill_package(&ann(), &id(&made)).await.unwrap_err();
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn a_package_is_its_owners_and_public_ones_are_administrators() {
    let node = Node::start().await;
    let zip = package("description: adds", "x");
    let own = node.resources.upload_skill(&ann(), upload("default", &zip)).await.unwrap();
    let replace = SkillUpload { id: Some(id(&own)), ..upload("default", &zip) };
    let resources = &node.resources;
    for status in [
        resources.skill_package(&bob(), &id(&own)).await.unwrap_err().status,
        resources.delete_skill(&bob(), &id(&own)).await.unwrap_err().status,
        resources.upload_skill(&bob(), replace).await.unwrap_err().status,
        resources.upload_skill(&bob(), upload("ann", &zip)).await.unwrap_err().status,
    ] {
        assert_eq!(status, 404);
    }
    let public = upload("public", &zip);
    let refused = resources.upload_skill(&bob(), public.clone()).await.unwrap_err();
    assert_eq!(refused.status, 403);
    let made = resources.upload_skill(&admin(), public).await.unwrap();
    let seen = resources.skill_package(&bob(), &id(&made)).await.unwrap();
    assert_eq!(seen.bytes, zip);
    assert_eq!(resources.delete_skill(&bob(), &id(&made)).await.unwrap_err().status, 403);
    let replace = SkillUpload { id: Some(id(&made)), ..upload("default", &zip) };
    assert_eq!(resources.upload_skill(&bob(), replace).await.unwrap_err().status, 403);
}

#[tokio::test]
async fn what_is_wrong_in_a_package_is_said_with_its_file_and_line() {
    let node = Node::start().await;
    let (status, said) = told(&node, &ann(), "version: \"1\"").await;
    assert!(status == 422 && said.contains("spec.description"), "{said}");
    let (status, said) = told(&node, &ann(), "description: x\nversion: 1.0").await;
    assert!(status == 422 && said.contains("SKILL.md") && said.contains("\"line\":3"), "{said}");
    let more = package("description: x\nkind: Team\nmetadata: {name: y}", "x");
    let made = node.resources.upload_skill(&ann(), upload("default", &more)).await.unwrap();
    let named = (&made["kind"], &made["metadata"]["name"]);
    assert_eq!(named, (&"Skill".into(), &"sum".into()), "nothing in it leaves the spec");
    let bytes = Bytes::from_static(b"PK nothing");
    let refused = node.resources.upload_skill(&ann(), upload("default", &bytes)).await.unwrap_err();
    assert_eq!((refused.status, &*refused.code), (400, "bad_package"));
    let bytes = Bytes::from(vec![0; troupe_services::PACKAGE_BYTES_MAX + 1]);
    let refused = node.resources.upload_skill(&ann(), upload("default", &bytes)).await.unwrap_err();
    assert_eq!(refused.status, 413);
}
