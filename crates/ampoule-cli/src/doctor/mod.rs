//! `ampoule doctor`

mod machine;
mod trial;

use std::fmt::Display;

use ampoule_abi::text::printable_line;
use serde::Serialize;

use crate::arguments::DoctorArguments;
use crate::failure::{Failure, Status};
use crate::print;

pub(crate) fn run(arguments: &DoctorArguments) -> Result<Status, Failure> {
    let mut examination = Examination::default();
    machine::platform(&mut examination);
    let hypervisor = machine::hypervisor(&mut examination, &arguments.device);
    machine::limits(&mut examination);
    match hypervisor {
        Some(hypervisor) => trial::run(&mut examination, hypervisor),
        None => examination.skip("trial", "there is no hypervisor to try out"),
    }
    let status = if examination.can_run() { Status::Done } else { Status::Failed };
    let text = if arguments.json { examination.json() } else { examination.text(arguments.verbose) };
    print(text.as_bytes())?;
    Ok(status)
}

/// What was found out so far, in the order in which it was.
#[derive(Debug, Default)]
struct Examination {
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    /// What was found, or what is wrong and what to do about it.
    finding: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Guests can run, and some may not.
    Warning,
    /// Guests cannot run.
    Failed,
    /// It was not looked at, because something that it needs has failed.
    Skipped,
}

impl Examination {
    fn ok(&mut self, name: &'static str, finding: impl Display) {
        self.add(name, State::Ok, finding);
    }

    fn warn(&mut self, name: &'static str, finding: impl Display) {
        self.add(name, State::Warning, finding);
    }

    fn fail(&mut self, name: &'static str, finding: impl Display) {
        self.add(name, State::Failed, finding);
    }

    fn skip(&mut self, name: &'static str, finding: impl Display) {
        self.add(name, State::Skipped, finding);
    }

    fn add(&mut self, name: &'static str, state: State, finding: impl Display) {
        self.checks.push(Check { name, state, finding: finding.to_string() });
    }

    fn can_run(&self) -> bool {
        self.checks.iter().all(|check| check.state != State::Failed)
    }

    /// A line for each check. What a finding has in further lines is indented below it, if it says why guests cannot run or
    /// everything was asked for.
    fn text(&self, is_verbose: bool) -> String {
        let mut text = String::new();
        for Check { name, state, finding } in &self.checks {
            let shown = match state {
                State::Ok => "ok",
                State::Warning => "warning",
                State::Failed => "FAILED",
                State::Skipped => "skipped",
            };
            let is_shown = is_verbose || *state == State::Failed;
            let mut lines = finding.lines().take(if is_shown { usize::MAX } else { 1 });
            text += &format!("{shown:<8} {name:<11} {}\n", printable_line(lines.next().unwrap_or_default()));
            text.extend(lines.map(|line| format!("{:21}{}\n", "", printable_line(line))));
        }
        text += if self.can_run() { "\nThis machine can run guests.\n" } else { "\nThis machine cannot run guests.\n" };
        text
    }

    fn json(&self) -> String {
        #[derive(Serialize)]
        struct Report<'a> {
            ok: bool,
            checks: &'a [Check],
        }
        let report = Report { ok: self.can_run(), checks: &self.checks };
        serde_json::to_string_pretty(&report).expect("a report is text") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_decides_and_a_warning_does_not() {
        let mut examination = Examination::default();
        examination.ok("kernel", "Linux 6.1\nmore");
        examination.warn("seccomp", "a filter is active");
        assert!(examination.text(false).ends_with("\nThis machine can run guests.\n"));
        examination.fail("device", "/dev/kvm: no such device; load the module\n  KVM_CAP_XCRS: missing");
        examination.skip("trial", "there is no hypervisor");
        assert_eq!(
            examination.text(false),
            "ok       kernel      Linux 6.1\n\
             warning  seccomp     a filter is active\n\
             FAILED   device      /dev/kvm: no such device; load the module\n                       KVM_CAP_XCRS: missing\n\
             skipped  trial       there is no hypervisor\n\
             \n\
             This machine cannot run guests.\n"
        );
        assert!(examination.text(true).starts_with("ok       kernel      Linux 6.1\n                     more\n"));
        let report: serde_json::Value = serde_json::from_str(&examination.json()).unwrap();
        assert_eq!(report["ok"], false);
        assert_eq!(report["checks"][1]["state"], "warning");
        assert_eq!(report["checks"][2]["name"], "device");
    }
}
