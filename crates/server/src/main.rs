//! The `posthouse` binary: hands the command line on and its outcome back.

use std::process::ExitCode;

fn main() -> ExitCode {
    posthouse::cli::run()
}
