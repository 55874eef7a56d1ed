//! The doorway: everything testable is in the library.

fn main() -> std::process::ExitCode {
    chancery::cli::main()
}
