//! The verbs: one file each.

/// Runs the command line of this process.
pub fn main() -> std::process::ExitCode {
    // Before anything else: a confined child must not parse, log or start what a daemon starts.
    if let Some(code) = crate::daemon::confined_child() {
        return code;
    }
    std::process::ExitCode::from(2)
}
