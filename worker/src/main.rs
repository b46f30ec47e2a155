//! `rocket-worker`: the trainer, one process per rank.

use std::process::ExitCode;

fn main() -> ExitCode {
    rocket_worker::cli::main()
}
