//! A terminal's other screen, on which a picture is drawn again and again, and which leaves nothing behind.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::termios::tcgetwinsize;
use signal_hook::consts::SIGTSTP;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::table::Room;
use crate::terminal;

/// While it lives, the other screen is shown; afterwards the terminal is as it was.
#[derive(Debug)]
pub(super) struct Screen(());

static IS_SHOWN: AtomicBool = AtomicBool::new(false);

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

impl Screen {
    /// `None` if standard output is no terminal.
    pub(super) fn enter() -> Option<io::Result<Self>> {
        let is_terminal = io::stdout().is_terminal();
        is_terminal.then(|| {
            IS_SHOWN.store(true, Ordering::SeqCst);
            // Dropped, and so left, if it cannot be entered.
            let screen = Self(());
            mind_ctrl_z()?;
            write(ENTER).map(|()| screen)
        })
    }

    /// What there is room for now: a window may be resized at any time.
    pub(super) fn room(&self) -> Room {
        let size = tcgetwinsize(io::stdout()).ok();
        let or = |size: Option<u16>, usual: usize| match size {
            None | Some(0) => usual,
            Some(size) => size.into(),
        };
        Room {
            columns: or(size.map(|size| size.ws_col), terminal::USUAL_WIDTH),
            rows: Some(or(size.map(|size| size.ws_row), 24)),
            has_colors: terminal::has_colors(),
        }
    }

    /// Draws over what was drawn before.
    pub(super) fn draw(&self, text: &str) -> io::Result<()> {
        if !IS_SHOWN.load(Ordering::SeqCst) {
            return Ok(());
        }
        let rows = self.room().rows.unwrap_or(usize::MAX);
        let lines: Vec<_> = text.lines().take(rows).collect();
        let lines = lines.join(&format!("{CLEAR_LINE}\r\n"));
        write(&format!("{HOME}{lines}{CLEAR_LINE}{CLEAR_BELOW}"))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Shows the terminal's usual screen again, if the other one is shown.
pub(super) fn leave() {
    if IS_SHOWN.swap(false, Ordering::SeqCst) {
        // A terminal that is gone needs no restoring.
        let _ = write(LEAVE);
    }
}

/// Whoever stops the program gets the usual screen, and the other one again when the program goes on.
fn mind_ctrl_z() -> io::Result<()> {
    let mut signals = Signals::new([SIGTSTP])?;
    thread::Builder::new()
        .name("ctrl-z".into())
        .spawn(move || {
            for signal in signals.forever() {
                let was_shown = IS_SHOWN.load(Ordering::SeqCst);
                leave();
                // Comes back when the program is continued.
                let _ = emulate_default_handler(signal);
                if was_shown {
                    IS_SHOWN.store(true, Ordering::SeqCst);
                    let _ = write(ENTER);
                }
            }
        })?;
    Ok(())
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
