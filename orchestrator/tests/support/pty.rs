//! A real pseudo-terminal with a program on it.
#![allow(dead_code, missing_docs, reason = "each test file uses a part of it")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::libc;

/// Longer than anything takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Leaves the alternate screen.
pub(crate) const LEAVES: &str = "\x1b[?1049l";
/// Shows the cursor.
pub(crate) const CURSOR: &str = "\x1b[?25h";

pub(crate) struct Pty {
    child: Child,
    master: File,
    /// What was written to it.
    output: Arc<Mutex<Vec<u8>>>,
    columns: usize,
    rows: usize,
}

impl Pty {
    /// Starts a program on a terminal of this size.
    pub(crate) fn start(command: &mut Command, columns: u16, rows: u16) -> Self {
        let (mut master, mut slave) = (-1, -1);
        let size = libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the descriptors are written by the call, no name is asked for, and the size lives.
        let made = unsafe {
            libc::openpty(
                &raw mut master,
                &raw mut slave,
                std::ptr::null_mut(),
                std::ptr::null(),
                &raw const size,
            )
        };
        assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: both were just opened, and belong to nobody else.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        command
            .env("TERM", "xterm-256color")
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave);
        // SAFETY: setsid and ioctl are async-signal-safe, and nothing is allocated.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        // The command keeps the descriptors of the other end until it is dropped or changed.
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let output = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (master.try_clone().unwrap(), Arc::clone(&output));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error is the end: nobody has the other side open any more.
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                to.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        Self {
            child,
            master,
            output,
            columns: columns.into(),
            rows: rows.into(),
        }
    }

    /// Types.
    pub(crate) fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// All that was written so far.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// What a person sees now, line by line.
    pub(crate) fn screen(&self) -> String {
        screen(&self.output(), self.columns, self.rows)
    }

    /// Waits until each of these is on the screen.
    pub(crate) fn wait_for(&self, texts: &[&str]) {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            let missing: Vec<_> = texts
                .iter()
                .filter(|text| !screen.contains(**text))
                .collect();
            if missing.is_empty() {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "waited in vain for {missing:?} in\n{screen}\n{:?}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the end of the program.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // What it wrote last is still on its way.
                std::thread::sleep(Duration::from_millis(100));
                return status;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "it does not end: {:?}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the terminal takes whole lines and echoes them, as a shell expects it.
    pub(crate) fn is_cooked(&self) -> bool {
        // SAFETY: the settings are written by the call.
        let settings = unsafe {
            let mut settings = std::mem::zeroed::<libc::termios>();
            assert_eq!(
                libc::tcgetattr(self.master.as_raw_fd(), &raw mut settings),
                0
            );
            settings
        };
        settings.c_lflag & libc::ICANON != 0 && settings.c_lflag & libc::ECHO != 0
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a terminal shows after this was written to it: as much of one as the programs here use. A sequence
/// that is not understood changes nothing.
fn screen(written: &str, columns: usize, rows: usize) -> String {
    let mut cells = vec![vec![' '; columns]; rows];
    let (mut row, mut column) = (0, 0);
    let mut chars = written.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => column = 0,
            '\n' if row + 1 < rows => row += 1,
            '\n' => {
                cells.remove(0);
                cells.push(vec![' '; columns]);
            }
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                let mut parameters = String::new();
                let mut end = ' ';
                for c in chars.by_ref() {
                    if c.is_ascii_alphabetic() {
                        end = c;
                        break;
                    }
                    parameters.push(c);
                }
                match (end, parameters.as_str()) {
                    ('H', place) => {
                        let mut numbers = place.split(';').map(|n| n.parse().unwrap_or(1_usize));
                        let mut next = || numbers.next().unwrap_or(1).max(1) - 1;
                        (row, column) = (next().min(rows - 1), next().min(columns - 1));
                    }
                    ('K', "") => cells[row][column.min(columns)..].fill(' '),
                    ('J', "") => {
                        cells[row][column.min(columns)..].fill(' ');
                        for line in &mut cells[row + 1..] {
                            line.fill(' ');
                        }
                    }
                    ('J', "2") | ('h' | 'l', "?1049") => {
                        for line in &mut cells {
                            line.fill(' ');
                        }
                    }
                    _ => {}
                }
            }
            c if c.is_control() => {}
            c => {
                if column < columns {
                    cells[row][column] = c;
                    column += 1;
                }
            }
        }
    }
    let lines: Vec<String> = cells
        .iter()
        .map(|line| line.iter().collect::<String>().trim_end().to_owned())
        .collect();
    lines.join("\n")
}
