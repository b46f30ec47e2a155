//! `rocket`, the program.

use std::process::ExitCode;

fn main() -> ExitCode {
    rocket::run().unwrap_or_else(|error| rocket::report(&error))
}
