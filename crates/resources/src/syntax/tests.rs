use super::*;

fn read_all(text: &str, format: Format) -> (Vec<Node>, Vec<Problem>) {
    let mut problems = Problems::default();
    let trees = read(text.as_bytes(), format, &mut problems);
    let nodes = trees.into_iter().map(|tree| tree.root).collect();
    (nodes, problems.into_sorted())
}

fn value(text: &str) -> serde_json::Value {
    let (nodes, problems) = read_all(text, Format::Yaml);
    assert_eq!(problems, []);
    nodes[0].to_value()
}

fn codes(text: &str, format: Format) -> Vec<(Code, u32, u32)> {
    let (_, problems) = read_all(text, format);
    problems.iter().map(|p| (p.code, p.at.line, p.at.column)).collect()
}

#[test]
fn core_schema() {
    let text =
        "[1, -2, 0x1f, 0o17, 1.5, .5, 1e3, 1.2.3, 12ab, yes, on, ~, true, 'true', !!str 5, +7]";
    let wanted = serde_json::json!([
        1, -2, 31, 15, 1.5, 0.5, 1000.0, "1.2.3", "12ab", "yes", "on", null, true, "true", "5", 7
    ]);
    assert_eq!(value(text), wanted);
}

#[test]
fn both_formats_give_the_same_tree() {
    let text = r#"{"a": [1, 2.5, null, true, "x\ny"], "b": {"c": "日本"}}"#;
    let (yaml, _) = read_all(text, Format::Yaml);
    let (json, _) = read_all(text, Format::Json);
    assert_eq!(yaml, json);
}

#[test]
fn json_escapes_of_emoji_are_read_without_being_told_the_format() {
    let (nodes, problems) = read_all(r#"{"a": "\ud83d\ude00"}"#, Format::Auto);
    assert_eq!(problems, []);
    assert_eq!(nodes[0].to_value(), serde_json::json!({"a": "😀"}));
}

#[test]
fn positions_count_characters() {
    let (nodes, _) = read_all("é: {ü: 1, x: [a, b]}", Format::Yaml);
    assert_eq!(nodes[0].locate("é.x"), Position::new(1, 11));
    assert_eq!(nodes[0].locate("é.x[1]"), Position::new(1, 18));
    assert_eq!(nodes[0].locate("é.missing"), Position::new(1, 1));
    let (nodes, _) = read_all("{\n \"é\": {\"x\": [1,\n 2]}}", Format::Json);
    assert_eq!(nodes[0].locate("é.x"), Position::new(2, 8));
    assert_eq!(nodes[0].locate("é.x[1]"), Position::new(3, 2));
}

#[test]
fn a_broken_document_leaves_its_neighbours() {
    let (nodes, problems) = read_all("a: 1\n---\nb: [1\n---\nc: 3\n---\nd: \"x\n", Format::Yaml);
    let values: Vec<_> = nodes.iter().map(Node::to_value).collect();
    assert_eq!(values, [serde_json::json!({"a": 1}), serde_json::json!({"c": 3})]);
    assert_eq!(problems.iter().map(|p| p.code).collect::<Vec<_>>(), [Code::Syntax, Code::Syntax]);
    assert!(problems[0].at.line >= 3 && problems[1].at.line >= 7, "{problems:?}");
}

#[test]
fn aliases_are_copied_within_limits() {
    assert_eq!(value("a: &x [1]\nb: *x"), serde_json::json!({"a": [1], "b": [1]}));
    assert_eq!(codes("a: &x [*x]", Format::Yaml), [(Code::Unsupported, 1, 8)]);
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..10 {
        let before = format!("*a{}", i - 1);
        bomb += &format!("a{i}: &a{i} [{}]\n", [before.as_str(); 9].join(", "));
    }
    assert_eq!(codes(&bomb, Format::Yaml)[0].0, Code::TooManyValues);
    let long = format!("a: &a {}\nb: [{}]", "y".repeat(10_000), ["*a"; 200].join(", "));
    assert_eq!(codes(&long, Format::Yaml)[0].0, Code::TooManyValues);
    let copies =
        |n: usize| format!("a: &a {}\nb: [{}]", "y".repeat(8_000), vec!["*a"; n].join(", "));
    assert_eq!(codes(&copies(30), Format::Yaml), []);
    assert_eq!(codes(&copies(130), Format::Yaml)[0].0, Code::TooManyValues, "found by fuzzing");
    // Each level is shallow, the expansion is not.
    let mut deep = String::from("a0: &a0 [[[[x]]]]\n");
    for i in 1..40 {
        deep += &format!("a{i}: &a{i} [[*a{}]]\n", i - 1);
    }
    assert_eq!(codes(&deep, Format::Yaml)[0].0, Code::TooDeep);
}

#[test]
fn depth_is_counted_alike() {
    let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    for format in [Format::Yaml, Format::Json, Format::Auto] {
        assert_eq!(codes(&nested(DEPTH_MAX), format), []);
        assert_eq!(codes(&nested(DEPTH_MAX + 1), format)[0].0, Code::TooDeep);
        assert_eq!(codes(&nested(100_000), format)[0].0, Code::TooDeep);
    }
}

#[test]
fn keys() {
    assert_eq!(codes("a: 1\nb: 2\na: 3", Format::Yaml), [(Code::DuplicateKey, 3, 1)]);
    assert_eq!(codes(r#"{"a": 1, "a": 2}"#, Format::Json), [(Code::DuplicateKey, 1, 10)]);
    assert_eq!(codes("? [a]\n: 1\nb: 2", Format::Yaml), [(Code::WrongType, 1, 3)]);
    let many: String = (0..40).map(|i| format!("k{i}: 1\n")).collect();
    assert_eq!(codes(&format!("{many}k7: 2"), Format::Yaml), [(Code::DuplicateKey, 41, 1)]);
    assert_eq!(value("1: a\ntrue: b"), serde_json::json!({"1": "a", "true": "b"}));
}

#[test]
fn numbers_that_do_not_fit() {
    for text in
        ["a: 99999999999999999999", "a: 1e999", "a: .inf", "a: .nan", "a: 0xfffffffffffffffff"]
    {
        assert_eq!(codes(text, Format::Yaml)[0].0, Code::OutOfRange, "{text}");
    }
    assert_eq!(codes(r#"{"a": 1e999}"#, Format::Json)[0].0, Code::OutOfRange);
}

#[test]
fn documents_and_sizes() {
    let many = "---\na: 1\n".repeat(DOCUMENTS_MAX + 1);
    assert_eq!(codes(&many, Format::Yaml)[0].0, Code::TooManyDocuments);
    let lines = "{\"a\": 1}\n".repeat(DOCUMENTS_MAX + 5);
    assert_eq!(codes(&lines, Format::Json)[0].0, Code::TooManyDocuments);
    let large = format!("ok: 1\n---\na: {}\n---\nb: 1", "x".repeat(DOCUMENT_BYTES_MAX));
    let (nodes, problems) = read_all(&large, Format::Yaml);
    assert_eq!((nodes.len(), problems[0].code, problems[0].at.line), (2, Code::TooLarge, 2));
    let large = format!("{{\"a\": \"{}\"}} {{}}", "x".repeat(DOCUMENT_BYTES_MAX));
    assert_eq!(codes(&large, Format::Json), [(Code::TooLarge, 1, 1)]);
}

#[test]
fn bad_utf8_is_told_with_its_place() {
    let mut problems = Problems::default();
    read(b"a: 1\n\xc3\xa9: \xff", Format::Yaml, &mut problems);
    let problems = problems.into_sorted();
    assert_eq!((problems[0].code, problems[0].at), (Code::InvalidUtf8, Position::new(2, 4)));
}

#[test]
fn a_tab_is_called_a_tab() {
    let (_, problems) = read_all("a:\n\tb: 1\n", Format::Yaml);
    assert!(problems[0].message.contains("tab"), "{problems:?}");
}

#[test]
fn format_of_a_file() {
    assert_eq!(Format::of_file("a/b.JSON"), Format::Json);
    assert_eq!(Format::of_file("b.yml"), Format::Yaml);
    assert_eq!(Format::of_file("-"), Format::Auto);
    assert_eq!(Format::of_file("é"), Format::Auto);
}

/// No shape of text may take time beyond what its size explains.
#[test]
fn hostile_shapes_end_in_time() {
    let size = 256 * 1024;
    let shapes = [
        "[",
        "{",
        "- ",
        "? ",
        "&a ",
        "*a ",
        "!a ",
        "\"",
        "'",
        "a: ",
        "a:\n ",
        "|\n",
        ">",
        "# ",
        "%",
        "\t",
        "- - ",
        "[]",
        "{},",
        "[a,",
        "{a: ",
        ": ",
        "a\n",
        "a ",
        "\\",
        "---\n",
        "...\n",
        "\r",
        "\u{feff}",
        "{\"a\":",
        "[[],",
        "- &x\n",
        "? - ",
        "&a [",
        "<<: ",
        "a: |\n  b\n",
        "é",
        "a: *a\n",
        "\u{85}",
        "[?",
        "[:",
        "{?",
        "!!str ",
        "!<a> ",
        "- |\n",
        "-\n ",
        "'a' ",
        "\"a\": ",
        "[\"",
        "@",
        "`",
        "a: 'b\n",
        "a: b: ",
    ];
    for shape in shapes {
        let text = shape.repeat(size / shape.len());
        for format in [Format::Auto, Format::Json] {
            let start = std::time::Instant::now();
            read_all(&text, format);
            let took = start.elapsed();
            assert!(took.as_secs() < 20, "{shape:?} took {took:?} as {format:?}");
        }
    }
}
