use serde_json::json;

use super::*;

#[derive(Debug)]
struct Named(&'static str, Option<&'static str>);

#[async_trait]
impl Tool for Named {
    fn name(&self) -> &str {
        self.0
    }
    fn description(&self) -> &str {
        "d"
    }
    fn schema(&self) -> Value {
        Value::Null
    }
    fn server_label(&self) -> Option<&str> {
        self.1
    }
    async fn call(&self, _: Map<String, Value>, _: ToolContext) -> Result<ToolOutput, ToolError> {
        Ok(ToolOutput::text(self.0))
    }
}

fn names(servers: &[(&'static str, &'static str)], reserved: Option<&str>) -> Vec<String> {
    let registry = ToolRegistry::new().with(Named("clock", None));
    let tool = |(server, name): &(&'static str, &'static str)| {
        Arc::new(Named(name, Some(server))) as Arc<dyn Tool>
    };
    let servers = servers.iter().map(tool).collect();
    let (set, _) = ToolSet::assemble(&registry, servers, reserved, 128);
    set.definitions().into_iter().map(|tool| tool.name).collect()
}

#[test]
fn names_are_prefixed_only_where_they_collide() {
    assert_eq!(names(&[("a", "find"), ("b", "read")], None), ["clock", "find", "read"]);
    assert_eq!(
        names(&[("a", "find"), ("b", "find"), ("b", "clock")], None),
        ["clock", "a__find", "b__find", "b__clock"]
    );
    assert_eq!(names(&[("a", "conclude")], Some("conclude")), ["clock", "a__conclude"]);
    assert_eq!(names(&[("a", "x.y"), ("a", "x y")], None), ["clock", "a__x_y", "a__x_y_2"]);
    let long = "n".repeat(80);
    let long: &'static str = Box::leak(long.into_boxed_str());
    let found = names(&[("a", long), ("b", long)], None);
    assert!(found.iter().all(|name| name.len() <= 64), "{found:?}");
    assert_ne!(found[1], found[2]);
}

#[test]
fn too_many_tools_are_left_out() {
    let tools = (0..5).map(|_| Arc::new(Named("t", Some("s"))) as Arc<dyn Tool>).collect();
    let (set, left_out) = ToolSet::assemble(&ToolRegistry::new(), tools, None, 3);
    assert_eq!((set.definitions().len(), left_out), (3, 2));
    let schema = set.definitions()[0].input_schema.clone();
    assert_eq!(schema, json!({"type": "object", "properties": {}}));
}

#[test]
fn results_are_bounded_and_readable() {
    let ran = Ran::new("a", &"\u{1b}x".repeat(100_000), BlockStatus::Done, 15_000);
    let Part::ToolResult { content, .. } = &ran.result else { panic!() };
    assert!(content.len() < 61_000 && ran.shown.len() <= caps::SHOWN_BYTES_MAX);
    assert!(!content.contains('\u{1b}') && content.contains("left out"));
    let ran = Ran::new("a", "", BlockStatus::Unknown, 10);
    let unknown = record::unknown_result("a");
    assert_eq!(ran.result, unknown);
}
