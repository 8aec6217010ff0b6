//! The words of the demo model.

use sha2::{Digest, Sha256};

/// A number that depends on the parts alone.
pub(super) fn dice(parts: &[&str]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.finalize()[..8]);
    u64::from_be_bytes(bytes)
}

/// One of the choices, by a number.
pub(super) fn pick<'a>(dice: u64, choices: &[&'a str]) -> &'a str {
    let at = dice % choices.len().max(1) as u64;
    choices.get(usize::try_from(at).unwrap_or(0)).copied().unwrap_or_default()
}

/// Whether the text is Chinese (or Japanese kanji) rather than Latin.
pub(super) fn is_chinese(text: &str) -> bool {
    text.chars().any(|c| matches!(c, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'))
}

/// The start of a text, on one line.
pub(super) fn excerpt(text: &str, chars_max: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= chars_max {
        return line;
    }
    let start: String = line.chars().take(chars_max).collect();
    format!("{start}…")
}

/// Cuts a text into the pieces in which it is streamed: a word, or two signs.
pub(super) fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut piece = String::new();
    for c in text.chars() {
        let wide = !c.is_ascii() && !c.is_alphabetic() || is_chinese(c.encode_utf8(&mut [0; 4]));
        piece.push(c);
        let count = piece.chars().count();
        if c.is_whitespace() || (wide && count >= 2) || count >= 12 {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// Piece `at` of filler text, `size` characters long; says where it is.
pub(super) fn filler(at: u32, size: u32) -> String {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut piece = format!("{at} ");
    while piece.len() < size {
        piece.push(char::from(b'a' + u8::try_from(piece.len() % 26).unwrap_or(0)));
    }
    piece.truncate(size);
    piece
}

/// The prose of a plain answer.
pub(super) fn answer(human: &str, attempt: u32, results: &[String]) -> String {
    let dice = dice(&[human, &attempt.to_string()]);
    let mark = format!("{:04x}", dice & 0xffff);
    let asked = excerpt(human, 60);
    if is_chinese(human) {
        let opening = pick(dice, &["好的。", "收到。", "明白了。", "没问题。"]);
        let mut text = format!(
            "{opening}我是 **demo model**（演示模型，按脚本回答），第 {attempt} 次尝试，标记 `{mark}`。\n\n"
        );
        if results.is_empty() {
            text.push_str(&format!("你说的是：“{asked}”\n\n- 逐字输出 🙂\n- 先思考，再回答\n- 需要时调用工具\n\n接入真正的模型后，这里就是它的回答。"));
        } else {
            text.push_str("工具返回的结果：\n\n");
            text.extend(results.iter().map(|result| format!("- `{}`\n", excerpt(result, 200))));
            text.push_str("\n以上就是我的回答。");
        }
        return text;
    }
    let opening = pick(dice >> 16, &["Sure.", "Here it is.", "All right.", "Gladly."]);
    let mut text = format!(
        "{opening} I am the **demo model**, a script and no real model. This is attempt {attempt}, mark `{mark}`.\n\n"
    );
    if results.is_empty() {
        text.push_str(&format!(
            "You said: \"{asked}\"\n\n1. I stream my answer piece by piece 🙂\n2. I think first\n3. I call a tool when you ask for one\n\nAdd a real model and its answer stands here."
        ));
    } else {
        text.push_str("The tools answered:\n\n");
        text.extend(results.iter().map(|result| format!("- `{}`\n", excerpt(result, 200))));
        text.push_str("\nThat is all I know.");
    }
    text
}

/// The prose of a plan.
pub(super) fn plan(human: &str, attempt: u32) -> String {
    let mark = format!("{:04x}", dice(&[human, &attempt.to_string(), "plan"]) & 0xffff);
    let asked = excerpt(human, 60);
    if is_chinese(human) {
        return format!(
            "## 计划（demo model，第 {attempt} 次尝试，标记 `{mark}`）\n\n目标：{asked}\n\n1. 弄清需求\n2. 做出最小可用的结果\n3. 检查并交付\n\n请确认后继续。"
        );
    }
    format!(
        "## Plan (demo model, attempt {attempt}, mark `{mark}`)\n\nGoal: {asked}\n\n1. Find out what is needed\n2. Build the smallest thing that works\n3. Check it and hand it over\n\nConfirm to go on."
    )
}

/// What it thinks first.
pub(super) fn thought(human: &str, attempt: u32) -> String {
    let dice = dice(&[human, &attempt.to_string(), "think"]);
    if is_chinese(human) {
        return pick(
            dice,
            &[
                "先看看用户要什么，再决定怎么回答。",
                "这个问题不难，按脚本回答即可。",
                "想一想：需不需要工具？",
            ],
        )
        .to_owned();
    }
    pick(
        dice,
        &[
            "Let me see what is asked, and whether a tool helps.",
            "A short answer will do; I follow my script.",
            "First the request, then the tools on offer, then the answer.",
        ],
    )
    .to_owned()
}
