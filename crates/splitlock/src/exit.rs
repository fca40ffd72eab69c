//! How the program ends.

/// How a command ended that did not fail.
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

/// The problem that the user asked to be told about.
pub(crate) const EXIT_FOUND: u8 = 1;
/// Usage and environment errors.
pub(crate) const EXIT_ERROR: u8 = 2;
/// `doctor` could not see enough.
pub(crate) const EXIT_CANNOT_SAY: u8 = 3;
/// What shells report for a program that SIGINT has ended.
pub(crate) const EXIT_STOPPED: u8 = 130;

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Fine => 0,
            Exit::Found => EXIT_FOUND,
            Exit::CannotSay => EXIT_CANNOT_SAY,
            Exit::Stopped => EXIT_STOPPED,
            Exit::OfProgram(code) => code,
        }
    }
}
