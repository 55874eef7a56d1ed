//! System calls that the kernel hands to another process instead of doing them: a seccomp filter with a listener.
//!
//! The kernel has no safe interface for this, so the few unsafe lines of the house that ask for it stand here; see
//! `docs/decisions/one-unsafe-module.md`.

#![expect(unsafe_code, reason = "seccomp listeners are reached through raw system calls only")]

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use rustix::io::Errno;

/// One call that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedCall {
    id: u64,
    /// The thread that made it.
    pub thread: u32,
    /// Its number.
    pub number: i64,
    /// Its arguments, as the kernel sees them.
    pub arguments: [u64; 6],
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Sets the filter for this thread, for good; what it answers with `SECCOMP_RET_USER_NOTIF` waits at the descriptor.
/// The thread must have given up new privileges before.
pub fn install(program: &mut [libc::sock_filter]) -> Result<OwnedFd, Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::TOOBIG)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives the call, which copies it, and its length is the slice's.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    let fd = i32::try_from(fd).map_err(|_| Errno::IO)?;
    if fd < 0 {
        return Err(last_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes the next call that waits. Fails with `NOENT` where its thread has gone meanwhile.
pub fn next(listener: &OwnedFd) -> Result<HandedCall, Errno> {
    // SAFETY: the structure is plain numbers, for which zeroes are valid; the kernel demands zeroes.
    let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the request writes one such structure.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) };
    if done < 0 {
        return Err(last_error());
    }
    Ok(HandedCall { id: call.id, thread: call.pid, number: i64::from(call.data.nr), arguments: call.data.args })
}

/// Whether the call still waits, so that what was looked up by the thread's number was the thread's own.
pub fn still_waits(listener: &OwnedFd, call: &HandedCall) -> bool {
    // SAFETY: the request reads one number.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const call.id) == 0 }
}

/// Answers a call: it was done, or it failed with this error.
pub fn answer(listener: &OwnedFd, call: &HandedCall, outcome: Result<(), Errno>) -> Result<(), Errno> {
    let error = outcome.err().map_or(0, |errno| -errno.raw_os_error());
    let mut reply = libc::seccomp_notif_resp { id: call.id, val: 0, error, flags: 0 };
    // SAFETY: the request reads one such structure.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut reply) };
    if done < 0 { Err(last_error()) } else { Ok(()) }
}
