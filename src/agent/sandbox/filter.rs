//! The seccomp filter: what no command may ask of the kernel, whatever Landlock allows.
//!
//! It is a list of refusals, not of permissions: a shell command may be any program. Two filters are stacked because
//! a filter has one answer: what must not be done gets EPERM; what programs know how to do without gets ENOSYS, so
//! that they fall back (`clone3`, whose flags a filter cannot see).

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// Processes that a command must not signal, where Landlock does not see to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Guarded {
    /// Process ids.
    pub processes: Vec<i32>,
    /// Process groups.
    pub groups: Vec<i32>,
}

/// The filters of one command, to be applied in order.
pub(super) fn compile(network: bool, guarded: Option<&Guarded>) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    let mut refused = Rules::default();
    refused.always(REFUSED);
    #[cfg(target_arch = "x86_64")]
    refused.always(REFUSED_X86_64);
    refused.always(&[OPEN_TREE_ATTR]);
    namespaces(&mut refused)?;
    sockets(&mut refused, network)?;
    others(&mut refused)?;
    set_ids(&mut refused)?;
    let mut missing = Rules::default();
    missing.always(MISSING);
    if let Some(guarded) = guarded {
        signals(&mut refused, guarded)?;
        missing.always(&[libc::SYS_pidfd_send_signal, libc::SYS_tkill]);
    }
    let mut attributes = Rules::default();
    attributes.always(ATTRIBUTES);
    for request in FILE_FLAGS {
        attributes.when(libc::SYS_ioctl, &[(1, SeccompCmpOp::Eq, *request)])?;
    }
    Ok(vec![refused.compile(libc::EPERM)?, missing.compile(libc::ENOSYS)?, attributes.compile(libc::ENOTSUP)?])
}

/// The filter that hands calls over to the supervisor.
pub(super) fn handing_over(calls: &[i64]) -> Result<Vec<libc::sock_filter>, seccompiler::BackendError> {
    let mut rules = Rules::default();
    rules.always(calls);
    // The compiler has no word for handing over: it writes the one for tracers, which nothing else here uses.
    let program = rules.compile_to(SeccompAction::Trace(0))?;
    let instruction = |one: seccompiler::sock_filter| {
        let traced = one.code == (libc::BPF_RET | libc::BPF_K) as u16 && one.k == libc::SECCOMP_RET_TRACE;
        let k = if traced { libc::SECCOMP_RET_USER_NOTIF } else { one.k };
        libc::sock_filter { code: one.code, jt: one.jt, jf: one.jf, k }
    };
    Ok(program.into_iter().map(instruction).collect())
}

/// The filter for where nobody can be handed anything: the calls are refused.
pub(super) fn refusing(calls: &[i64]) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules = Rules::default();
    rules.always(calls);
    rules.compile(libc::EPERM)
}

/// Calls that are refused whatever their arguments.
const REFUSED: &[i64] = &[
    // other processes' memory and descriptors
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // mounts and other roots
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    // the kernel itself
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_fanotify_init,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    // keys of the session
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
];

#[cfg(target_arch = "x86_64")]
const REFUSED_X86_64: &[i64] = &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_uselib];

/// Calls that are answered as if the kernel did not have them. `io_uring` would do what the other rules refuse,
/// `openat2` hides its mode from a filter, and memory and queues of System V and POSIX outlive whoever makes them.
const MISSING: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_openat2,
    libc::SYS_shmget,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    FILE_SETATTR,
];

/// Calls that change extended attributes, by path or through a descriptor, for which one that reads is enough. Access
/// lists are among these, and Landlock does not guard them; programs know file systems that have none.
const ATTRIBUTES: &[i64] = &[
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    SETXATTRAT,
    REMOVEXATTRAT,
];

/// Requests that change what a file system keeps about a file, also through a descriptor that was opened for reading:
/// `FS_IOC_SETFLAGS`, `FS_IOC_FSSETXATTR`, `FS_IOC_SETVERSION`, `FS_IOC_ENABLE_VERITY`, `FS_IOC_SET_ENCRYPTION_POLICY`.
const FILE_FLAGS: &[u32] = &[0x4008_6602, 0x401c_5820, 0x4008_7602, 0x4080_6685, 0x800c_6613];

// Numbers that are the same on every architecture and too new for the list.
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
const OPEN_TREE_ATTR: i64 = 467;
const FILE_SETATTR: i64 = 469;

/// Bit that marks a call of the x32 ABI, which shares the architecture number with x86-64.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

#[derive(Default)]
struct Rules(BTreeMap<i64, Vec<SeccompRule>>);

impl Rules {
    fn always(&mut self, calls: &[i64]) {
        self.0.extend(calls.iter().map(|call| (*call, Vec::new())));
    }

    /// Refuses the call where all the conditions hold; several rules of a call add up.
    fn when(&mut self, call: i64, conditions: &[(u8, SeccompCmpOp, u32)]) -> Result<(), seccompiler::BackendError> {
        let conditions = conditions
            .iter()
            .map(|(argument, operation, value)| {
                SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operation.clone(), u64::from(*value))
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.0.entry(call).or_default().push(SeccompRule::new(conditions)?);
        Ok(())
    }

    fn compile(self, errno: i32) -> Result<BpfProgram, seccompiler::BackendError> {
        self.compile_to(SeccompAction::Errno(errno.unsigned_abs()))
    }

    fn compile_to(mut self, action: SeccompAction) -> Result<BpfProgram, seccompiler::BackendError> {
        #[cfg(target_arch = "x86_64")]
        {
            let twins: Vec<_> = self.0.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
            self.0.extend(twins);
            // Calls of the x32 ABI with numbers of their own; without `execve` there is no x32 program at all.
            self.0.extend((512..548).map(|call| (X32 | call, Vec::new())));
        }
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        SeccompFilter::new(self.0, SeccompAction::Allow, action, arch)?.try_into()
    }
}

/// New namespaces would give a command rights it does not have outside of them.
fn namespaces(rules: &mut Rules) -> Result<(), seccompiler::BackendError> {
    let flags = [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWCGROUP,
    ];
    for flag in flags.map(i32::cast_unsigned) {
        for call in [libc::SYS_clone, libc::SYS_unshare] {
            rules.when(call, &[(0, SeccompCmpOp::MaskedEq(u64::from(flag)), flag)])?;
        }
    }
    Ok(())
}

/// Without network no socket is made at all. With it only internet sockets, and the netlink ones that name lookup
/// needs: a unix socket may lead to a daemon that does what the sandbox refuses. A connected unix pair reaches nobody
/// outside and is always allowed.
fn sockets(rules: &mut Rules, network: bool) -> Result<(), seccompiler::BackendError> {
    use SeccompCmpOp::Ne;
    let [unix, inet, inet6, netlink] =
        [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK].map(i32::cast_unsigned);
    rules.when(libc::SYS_socketpair, &[(0, Ne, unix)])?;
    // A datagram pair is a pair in name only: either end may send to any socket that has a path.
    for kind in [libc::SOCK_DGRAM, libc::SOCK_RAW].map(i32::cast_unsigned) {
        rules.when(libc::SYS_socketpair, &[(1, SeccompCmpOp::MaskedEq(0xf), kind)])?;
    }
    if network {
        rules.when(libc::SYS_socket, &[(0, SeccompCmpOp::Eq, netlink), (2, Ne, 0)])?;
        rules.when(libc::SYS_socket, &[(0, Ne, inet), (0, Ne, inet6), (0, Ne, netlink)])
    } else {
        rules.always(&[libc::SYS_socket]);
        Ok(())
    }
}

/// A file that lets whoever runs it act as its owner outlives the sandbox that it was made in.
fn set_ids(rules: &mut Rules) -> Result<(), seccompiler::BackendError> {
    use SeccompCmpOp::MaskedEq;
    let made = |flag: u32| MaskedEq(u64::from(flag));
    for bit in [libc::S_ISUID, libc::S_ISGID] {
        let set = || MaskedEq(u64::from(bit));
        rules.when(libc::SYS_fchmod, &[(1, set(), bit)])?;
        rules.when(libc::SYS_mknodat, &[(2, set(), bit)])?;
        for flag in [libc::O_CREAT, O_TMPFILE_ALONE].map(i32::cast_unsigned) {
            rules.when(libc::SYS_openat, &[(2, made(flag), flag), (3, set(), bit)])?;
            #[cfg(target_arch = "x86_64")]
            rules.when(libc::SYS_open, &[(1, made(flag), flag), (2, set(), bit)])?;
        }
        #[cfg(target_arch = "x86_64")]
        {
            rules.when(libc::SYS_creat, &[(1, set(), bit)])?;
            rules.when(libc::SYS_mknod, &[(1, set(), bit)])?;
        }
    }
    Ok(())
}

/// `O_TMPFILE` without the bit that it shares with `O_DIRECTORY`.
const O_TMPFILE_ALONE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;

/// Landlock does not keep a process from changing limits or priorities of others of the same user.
fn others(rules: &mut Rules) -> Result<(), seccompiler::BackendError> {
    rules.when(libc::SYS_prlimit64, &[(0, SeccompCmpOp::Ne, 0)])?;
    for call in
        [libc::SYS_sched_setscheduler, libc::SYS_sched_setparam, libc::SYS_sched_setattr, libc::SYS_sched_setaffinity]
    {
        rules.when(call, &[(0, SeccompCmpOp::Ne, 0)])?;
    }
    rules.when(libc::SYS_ioprio_set, &[(0, SeccompCmpOp::Ne, IOPRIO_WHO_PROCESS)])?;
    rules.when(libc::SYS_ioprio_set, &[(1, SeccompCmpOp::Ne, 0)])?;
    rules.when(libc::SYS_setpriority, &[(0, SeccompCmpOp::Ne, libc::PRIO_PROCESS)])?;
    rules.when(libc::SYS_setpriority, &[(1, SeccompCmpOp::Ne, 0)])
}

/// Signals to the daemon and the supervisor, by process, by group, to everyone, and by way of a descriptor's owner.
fn signals(rules: &mut Rules, guarded: &Guarded) -> Result<(), seccompiler::BackendError> {
    use SeccompCmpOp::Eq;
    let everyone = [-1];
    let groups = guarded.groups.iter().map(|group| -group);
    for target in guarded.processes.iter().copied().chain(groups).chain(everyone).map(i32::cast_unsigned) {
        for call in [libc::SYS_kill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo] {
            rules.when(call, &[(0, Eq, target)])?;
        }
    }
    for command in [libc::F_SETOWN, F_SETOWN_EX].map(i32::cast_unsigned) {
        rules.when(libc::SYS_fcntl, &[(1, Eq, command)])?;
    }
    for request in [FIOSETOWN, SIOCSPGRP] {
        rules.when(libc::SYS_ioctl, &[(1, Eq, request)])?;
    }
    Ok(())
}

const IOPRIO_WHO_PROCESS: u32 = 1;
const F_SETOWN_EX: i32 = 15;
const FIOSETOWN: u32 = 0x8901;
const SIOCSPGRP: u32 = 0x8902;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_compiles_to_a_program_the_kernel_takes() {
        let guarded = Guarded { processes: vec![10, 11], groups: vec![10, 11] };
        for network in [false, true] {
            for guarded in [None, Some(&guarded)] {
                let programs = compile(network, guarded).unwrap();
                assert!(programs.iter().all(|program| (1..4_096).contains(&program.len())));
            }
        }
    }
}
