//! `admin doctor`

use troupe_api::admin::{Check, CheckState, DoctorReport, Unchecked};

use super::{failed, value_of};
use crate::{args::Format, client::Client, error::CliError, output};

pub(super) async fn run(client: &Client, format: Format, strict: bool) -> Result<(), CliError> {
    let report: DoctorReport = client.get("/api/v1/admin/doctor").await?;
    let wrong: Vec<&Check> = report.checks.iter().filter(|c| c.state != CheckState::Ok).collect();
    let names = || wrong.iter().map(|check| check.name.clone()).collect();
    output::print(format, &value_of(&report), || words(&report), names);
    let worst = if strict { CheckState::Warn } else { CheckState::Fail };
    let bad = wrong.iter().filter(|check| check.state >= worst).count();
    if bad == 0 {
        return Ok(());
    }
    Err(failed("unwell", format!("{bad} of {} checks did not go well", report.checks.len())))
}

const fn word(state: CheckState) -> &'static str {
    match state {
        CheckState::Ok => "ok  ",
        CheckState::Warn => "WARN",
        CheckState::Fail => "FAIL",
    }
}

fn words(report: &DoctorReport) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let invariant = check.invariant.as_ref().map(|i| format!(" ({i})")).unwrap_or_default();
        let state = word(check.state);
        text.push_str(&format!("{state}  {}{invariant}: {}\n", check.title, check.found));
        if let Some(fix) = &check.fix {
            text.push_str(&format!("      {fix}\n"));
        }
    }
    for Unchecked { invariant, why } in &report.unchecked {
        text.push_str(&format!("--    not checked ({invariant}): {why}\n"));
    }
    let count = |state| report.checks.iter().filter(|check| check.state == state).count();
    text.push_str(&format!(
        "{} ok, {} to look at, {} wrong; {} ms, by {}\n",
        count(CheckState::Ok),
        count(CheckState::Warn),
        count(CheckState::Fail),
        report.took_ms,
        report.node
    ));
    text
}
