//! The `posthouse` binary: hands the command line on and its outcome back.

use std::process::ExitCode;

fn main() -> ExitCode {
    if posthouse_sandbox::launcher::is_called() {
        posthouse_sandbox::launcher::main();
        return ExitCode::SUCCESS;
    }
    posthouse::cli::run()
}
