//! How the program ends.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Fine,
    /// The problem that was asked for was found.
    Found,
    /// Not enough could be seen to say whether there is a problem.
    CannotSay,
    /// By Ctrl-C, with everything measured so far written.
    Stopped,
    /// As the program did that was run.
    OfProgram(u8),
}

/// Usage and environment errors.
pub(crate) const EXIT_ERROR: u8 = 2;
/// What shells report for a program that SIGINT has ended.
pub(crate) const EXIT_STOPPED: u8 = 130;

impl Exit {
    /// As shells have it: a program that a signal has ended counts as 128 and the signal's number.
    pub(crate) fn of_program(status: ExitStatus) -> Self {
        let signal = || status.signal().map_or(0, |signal| 128 + signal);
        let code = status.code().unwrap_or_else(signal);
        Self::OfProgram(u8::try_from(code).unwrap_or(u8::MAX))
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Fine => 0,
            Exit::Found => 1,
            Exit::CannotSay => 3,
            Exit::Stopped => EXIT_STOPPED,
            Exit::OfProgram(code) => code,
        }
    }
}
