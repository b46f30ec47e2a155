//! The terminal as a screen of its own, which is given back in whatever way the program leaves.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

/// Between two looks at whether the program is to end.
const SLICE: Duration = Duration::from_millis(100);

/// Whether somebody asked for the end by a signal.
static ENDED: AtomicBool = AtomicBool::new(false);
/// What is to be given back: nothing, the screen, or the screen and the way of typing.
static TAKEN: AtomicU8 = AtomicU8::new(0);
const SCREEN: u8 = 1;
const RAW: u8 = 2;

/// The alternate screen, until it is dropped. A panic gives the terminal back before it speaks.
#[derive(Debug)]
pub(crate) struct Screen(());

impl Screen {
    /// Takes the screen; `raw`: with every key as it is typed.
    pub(crate) fn take(raw: bool) -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        let this = Self(());
        TAKEN.store(if raw { SCREEN | RAW } else { SCREEN }, Ordering::SeqCst);
        if raw {
            enable_raw_mode()?;
        }
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(this)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    let taken = TAKEN.swap(0, Ordering::SeqCst);
    if taken & RAW != 0 {
        let _ = disable_raw_mode();
    }
    if taken & SCREEN != 0 {
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = io::stdout().flush();
    }
}

/// Turns signals that end a program into a wish that [`ended`] tells of, so that it leaves in order.
pub(crate) fn listen() {
    extern "C" fn note(_: nix::libc::c_int) {
        ENDED.store(true, Ordering::SeqCst);
    }
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does nothing but store to an atomic.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

/// Whether a signal has asked for the end.
pub(crate) fn ended() -> bool {
    ENDED.load(Ordering::SeqCst)
}

/// Waits for a while; `false` as soon as a signal asks for the end, or nobody reads stdout any more.
pub(crate) fn wait(time: Duration) -> bool {
    let end = Instant::now() + time;
    let stdout = io::stdout();
    let stdout = stdout.as_fd();
    loop {
        if ended() || is_closed(stdout) {
            return false;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(SLICE));
    }
}

/// Whether a pipe has lost its reader, or a terminal was closed.
fn is_closed(file: BorrowedFd<'_>) -> bool {
    let mut files = [PollFd::new(file, PollFlags::empty())];
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
    poll(&mut files, PollTimeout::ZERO).is_ok()
        && files[0]
            .revents()
            .is_some_and(|flags| flags.intersects(gone))
}

#[cfg(test)]
#[path = "../tests/support/pty.rs"]
mod pty;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::Screen;
    use super::pty::{CURSOR, LEAVES, Pty};

    /// What the test below runs on a terminal of its own.
    #[test]
    #[ignore = "wants a terminal"]
    fn panics() {
        let _screen = Screen::take(true).unwrap();
        panic!("on purpose");
    }

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_speaks() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "screen::tests::panics",
            "--exact",
            "--ignored",
            "--nocapture",
        ]);
        let mut pty = Pty::start(&mut command, 80, 24);
        assert!(!pty.end().success());
        let output = pty.output();
        let (_, after) = output.split_once(LEAVES).expect("the screen is left");
        assert!(
            after.contains(CURSOR) && after.contains("on purpose"),
            "{output:?}"
        );
        assert!(pty.is_cooked());
    }
}
