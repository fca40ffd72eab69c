//! The page that a person reads from the top down: verdict, why, who, cost, fix.

use split_lock_host::{
    Answer, Basis, Cost, Diagnosis, DurationRange, Fix, FixLocation, Persistence, Step, Verdict,
};
use split_lock_model::kernel::Profile;
use split_lock_model::time::Nanos;

use super::attribution;
use super::counting;
use super::instruction::Located;
use crate::page::{Page, Severity};

pub(super) fn of(diagnosis: &Diagnosis, instructions: &[Located], mut page: Page) -> Page {
    let verdict = &diagnosis.verdict;
    let severity = match verdict.answer() {
        Answer::Fine => Severity::Good,
        Answer::Found => Severity::Bad,
        Answer::CannotSay => Severity::Unsure,
    };
    page.title(&verdict.title(), severity);
    page.paragraph(&verdict.condition.meaning());
    why(&mut page, verdict);
    if diagnosis.is_of_reports {
        sources(&mut page, diagnosis);
    }
    attribution::put_on(&mut page, diagnosis, instructions);
    cost(&mut page, verdict);
    fix(&mut page, diagnosis);
    count(&mut page, diagnosis);
    page
}

/// A slow machine whose log is empty may split locks all the same.
fn count(page: &mut Page, diagnosis: &Diagnosis) {
    if let Some(command) = counting::command(&diagnosis.facts) {
        page.heading("To count bus locks");
        page.paragraph(
            "The CPU counts them whether Linux looks or not (in a guest: if its hypervisor passes the counters on). \
             Which instruction it is, `splitlock find` says.",
        );
        page.verbatim(&command);
    }
}

fn why(page: &mut Page, verdict: &Verdict) {
    page.heading("Why");
    for reason in &verdict.because {
        page.item("-", &format!("{}.", capitalized(reason)));
    }
    for doubt in &verdict.doubts {
        page.item("?", &format!("{}.", capitalized(doubt)));
    }
    page.item("", &format!("This rests on {}.", rests_on(verdict.basis)));
}

/// Of a machine that others have told of: which facts there are, and who says so.
fn sources(page: &mut Page, diagnosis: &Diagnosis) {
    page.heading("What is known, and from where");
    let facts = &diagnosis.facts;
    // A log names only those that its kernel uses.
    let are_all = facts.has_cpu_flag("fpu") == Some(true);
    let flags = |name| match facts.has_cpu_flag(name)? {
        true => Some(format!("flag {name}")),
        false => are_all.then(|| format!("no flag {name}")),
    };
    let cpu_flags = ["split_lock_detect", "bus_lock_detect", "hypervisor"];
    let cpu_flags: Vec<_> = cpu_flags.into_iter().filter_map(flags).collect();
    let cpu_flags = (!cpu_flags.is_empty()).then(|| cpu_flags.join(", "));
    let mut row = |name: &str, value: Option<&String>, from: &str| match value {
        Some(value) => page.item("-", &format!("{name}: {value} ({from})")),
        None => page.item("-", &format!("{name}: not known")),
    };
    let hz = facts.hz.known().map(ToString::to_string);
    let history = &diagnosis.history;
    let traps = history.known().map(|log| format!("{} traps", log.traps()));
    row("CPU", facts.cpu_model.known(), &facts.cpu_model.from);
    row("its flags", cpu_flags.as_ref(), &facts.cpu_flags.from);
    for (name, fact) in [
        ("kernel", &facts.kernel_release),
        ("command line", &facts.command_line),
        ("kernel.split_lock_mitigate", &facts.split_lock_mitigate),
    ] {
        row(name, fact.known(), &fact.from);
    }
    row("ticks a second", hz.as_ref(), &facts.hz.from);
    row(
        "hypervisor",
        facts.hypervisor.known(),
        &facts.hypervisor.from,
    );
    row("log", traps.as_ref(), &history.from);
}

fn cost(page: &mut Page, verdict: &Verdict) {
    let by_the_model = |kernels| format!("By the model of {}:", named(kernels));
    match &verdict.cost {
        None => {}
        Some(Cost::Trap {
            sleep,
            window,
            never_up_to,
            always_from,
            kernels,
        }) => {
            page.heading("What it costs");
            page.paragraph(&by_the_model(kernels));
            let (sleep, window) = (between(*sleep), window.at_most);
            page.item(
                "-",
                &format!(
                    "One trap: a sleep of {sleep}, then at most {window} in which the thread may split as many \
                     locks as it likes. Only one thread of the whole machine has that at a time; the others wait."
                ),
            );
            page.item("-", &livelock(*never_up_to, *always_from));
        }
        Some(Cost::RateLimited { sleep, kernels }) => {
            page.heading("What it costs");
            page.paragraph(&by_the_model(kernels));
            let sleep = between(*sleep);
            let text = format!("Sleeps of {sleep} each, until the rate allows another bus lock.");
            page.item("-", &text);
        }
    }
}

fn fix(page: &mut Page, diagnosis: &Diagnosis) {
    let verdict = &diagnosis.verdict;
    page.heading("What to do");
    if verdict.fixes.is_empty() {
        page.paragraph(match verdict.answer() {
            Answer::CannotSay if diagnosis.is_of_reports => {
                "Ask for what is not known, and give it as well: `lscpu`, `uname -a`, `cat /proc/cmdline`, `sysctl -a`, and the \
                 log of this boot (`journalctl -k -b`)."
            }
            Answer::CannotSay => {
                "Look again as root, or with --root at a folder that has the machine's /proc."
            }
            _ => "Nothing has to be done.",
        });
    }
    for (n, fix) in verdict.fixes.iter().enumerate() {
        describe(page, n + 1, fix);
    }
}

fn describe(page: &mut Page, n: usize, fix: &Fix) {
    let place = match fix.place {
        FixLocation::Here => "",
        FixLocation::HostOfContainer => " (on the host of this container)",
        FixLocation::HostOfVirtualMachine => " (on the host of this virtual machine)",
    };
    let reboot = if fix.needs_reboot {
        " Needs a reboot."
    } else {
        ""
    };
    page.item(&format!("{n}."), &format!("{}{place}.{reboot}", fix.what));
    for Step { lasts, command } in &fix.steps {
        let when = match lasts {
            _ if fix.needs_reboot || fix.steps.len() == 1 => "",
            Persistence::UntilReboot => "now:      ",
            Persistence::FromNextBoot => "for good: ",
        };
        page.verbatim(&format!("{when}{command}"));
    }
    if let Some(gives_up) = &fix.gives_up {
        page.item("", &format!("Gives up: {gives_up}."));
    }
}

fn rests_on(basis: Basis) -> &'static str {
    match basis {
        Basis::Traps => "what has happened",
        Basis::BootLine => "what the kernel itself said when it started",
        Basis::Settings => "the CPU's flags, the command line and the sysctl",
        Basis::Release => {
            "the kernel's release, which distributions make differ from what it was upstream"
        }
        Basis::Nothing => "nothing",
    }
}

fn livelock(never_up_to: Nanos, always_from: Nanos) -> String {
    let safe = format!("from {always_from} on it always gets past, if no other core splits locks");
    if never_up_to == Nanos::ZERO {
        format!(
            "A thread with signals less than {always_from} apart, or a VMM that ends every run of a vCPU sooner than that, \
                 can be kept from getting past a split lock for ever; {safe}."
        )
    } else {
        format!(
            "A thread with a signal every {never_up_to} or more often, or a VMM that ends every run of a vCPU within \
                 {never_up_to}, never gets past a split lock; {safe}."
        )
    }
}

fn between(span: DurationRange) -> String {
    format!("{} to {}", span.longer_than, span.at_most)
}

fn named(kernels: &[Profile]) -> String {
    match kernels {
        [kernel] => format!("Linux {} at {} Hz", kernel.base(), kernel.hz()),
        _ => "all kernels that this one may be (its release or its tick rate is not known)".into(),
    }
}

fn capitalized(text: &str) -> String {
    let mut rest = text.chars();
    match rest.next() {
        // A setting's name stays as it is written.
        Some(first) if !text.starts_with("kernel.") => first.to_uppercase().chain(rest).collect(),
        _ => text.to_owned(),
    }
}
