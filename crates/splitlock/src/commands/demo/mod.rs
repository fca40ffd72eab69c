//! `splitlock demo linux`

use std::time::Instant;

use anyhow::{Result, bail};
use split_lock_assist::guard::Stall;
use split_lock_host::{Detection, Facts};
use split_lock_repro::linux::{
    Boot, Complaint, ConsoleAction, Ending, LinuxVm, Session, SessionTimeouts, Stage, Step,
};
use split_lock_repro::sweep::Stop;
use split_lock_repro::vm::open_kvm;

use crate::args::demo::{Demo, DemoArgs, FailOn, LinuxArgs};
use crate::error::{print_note, print_to_stderr};
use crate::exit::Exit;
use crate::interrupt::stop_on_ctrl_c;
use crate::kernel_choice::of_this_host;
use crate::output::Output;
use crate::{guard_config, stdout};

mod console;
mod expectation;
mod json;
mod report;

use console::{Console, short};
use report::Report;

pub(crate) fn run(args: &DemoArgs) -> Result<Exit> {
    match &args.demo {
        Demo::Linux(args) => linux(args),
    }
}

fn linux(args: &LinuxArgs) -> Result<Exit> {
    let log = args.log.as_deref().map(Output::prepare).transpose()?;
    if args.json && matches!(log, Some(Output::Standard)) {
        bail!("--log and --json cannot go to the same place");
    }
    let kvm = open_kvm(&args.kvm)?;
    let stop = stop_on_ctrl_c()?;
    let facts = Facts::live()?;
    let (detection, kernel) = (facts.detection(), of_this_host(&facts).ok());
    let boot = Boot {
        kernel: args.kernel.clone(),
        initrd: args.initrd.clone(),
        memory_bytes: args.memory,
        append: args.append.clone(),
    };
    let mut guest = LinuxVm::new(&kvm, &boot, guard_config::config(args.guard, None, 0))?;
    if let Some(note) = expectation::note(args, &detection, kernel.as_ref()) {
        print_note(&note);
    }
    let mut console = Console::new(!args.json);
    console.say(&format!(
        "Linux {} as a guest, in runs of {:?}, guard {}. Its console:\n",
        guest.release(),
        args.quantum,
        args.guard
    ))?;
    let mut session = Session::new(SessionTimeouts {
        boot: args.boot_timeout,
        split: args.duration,
    });
    let ended = listen(args, &mut guest, &mut session, &mut console, &stop);
    // Also that of a guest that came to a bad end, or that nobody looks at any more.
    if let Some(log) = log {
        log.write(|out| out.write_all(console.all().as_bytes()))?;
    }
    console.end_line()?;
    console.say("\n")?;
    let Some(ending) = ended? else {
        print_to_stderr("stopped before the guest came to an end");
        return Ok(Exit::Stopped);
    };
    complain_about(args, &session, ending, &console)?;
    let report = Report {
        guest: &guest,
        session: &session,
        ending,
        duration: args.duration,
    };
    tell(args, &detection, &report)
}

/// Runs the guest until it has come to its end; `None` if it was stopped before.
fn listen(
    args: &LinuxArgs,
    guest: &mut LinuxVm,
    session: &mut Session,
    console: &mut Console,
    stop: &Stop,
) -> Result<Option<Ending>> {
    let start = Instant::now();
    while !stop.is_requested() {
        let step = guest.run(args.quantum)?;
        let text = console.add(&guest.take_output())?;
        session.add_output(&text, start.elapsed());
        guest.take_new_stalls().iter().for_each(say_where);
        if step == Step::Reset {
            return Ok(Some(session.ending_after_reset()));
        }
        match session.next(start.elapsed()) {
            ConsoleAction::Wait => {}
            ConsoleAction::Type(text) => guest.enter(text),
            ConsoleAction::End(ending) => return Ok(Some(ending)),
        }
    }
    Ok(None)
}

/// Once for each instruction.
fn say_where(stall: &Stall) {
    let done = guard_config::in_words(&stall.response);
    let at = stall.instruction;
    print_note(&format!("the guest is held up at {at}; {done}"));
}

/// Says why nothing was shown, if that is so.
fn complain_about(
    args: &LinuxArgs,
    session: &Session,
    ending: Ending,
    console: &Console,
) -> Result<()> {
    let boot_timeout = args.boot_timeout;
    let has_begun = matches!(
        session.stage(),
        Stage::Splitting { .. } | Stage::Done { .. }
    );
    match ending {
        Ending::NoOutput => bail!(
            "no serial output from the guest in {boot_timeout:?}: try --append earlyprintk=serial,ttyS0, a \
             kernel with a serial console (CONFIG_SERIAL_8250_CONSOLE), or a longer --boot-timeout"
        ),
        Ending::NoPrompt => bail!(
            "the guest has not come to a prompt in {boot_timeout:?}; the last that it said was `{}`: try \
             --append loglevel=7 to see more, or a longer --boot-timeout",
            console.last_line()
        ),
        Ending::NotStarted => bail!(
            "the guest's shell has not started the program in {boot_timeout:?}; the last that it said was `{}`",
            console.last_line()
        ),
        Ending::Panicked if !has_begun => bail!(
            "the guest's kernel has given up before it came to its prompt: {}",
            short(panic_of(session).unwrap_or("it did not say why"))
        ),
        Ending::PoweredOff if !has_begun => {
            bail!("the guest has switched itself off before it came to its prompt")
        }
        Ending::Restarted if !has_begun => bail!(
            "the guest has restarted before it came to its prompt: try --append loglevel=7 to see why, or \
             more --memory"
        ),
        _ => Ok(()),
    }
}

fn panic_of(session: &Session) -> Option<&str> {
    let mut heard = session.complaints().iter();
    let panic = heard.find(|heard| heard.complaint == Complaint::Panic)?;
    Some(&panic.line)
}

fn tell(args: &LinuxArgs, detection: &Detection, report: &Report) -> Result<Exit> {
    if args.json {
        stdout::print(&json::of(args, detection, report)?)?;
    } else {
        report.page(args).print()?;
    }
    let fails = args.fail_on == Some(FailOn::Hang) && report.hung();
    Ok(if fails { Exit::Found } else { Exit::Fine })
}
