//! The part of confinement that a process does to itself before it becomes the command.

use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::thread::CapabilitySet;

use super::confinement::{LANDLOCK_ABI_FLOOR, LANDLOCK_ABI_SIGNALS};
use super::filter::{self, Guarded};
use super::ownership;
use super::plan::{Plan, Rules};
use crate::platform::handed_calls;

/// What may be read and executed besides the workspace. Landlock cannot take a file out of a folder again, so `/etc`
/// is a list of what is public in it; `/proc` and `/sys` are lists of what says nothing about other processes.
pub(super) const READ_ONLY: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/etc/alternatives",
    "/etc/bash.bashrc",
    "/etc/ca-certificates",
    "/etc/debian_version",
    "/etc/gitconfig",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/inputrc",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/perl",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/protocols",
    "/etc/python3",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/shells",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/uptime",
    "/proc/version",
    "/sys/devices/system/cpu",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
];

/// Devices that may also be written.
const WRITABLE_DEVICES: &[&str] = &["/dev/null", "/dev/full"];

/// What root keeps: enough to work on files that others own. Everything that reaches beyond files goes.
const KEPT_CAPABILITIES: CapabilitySet =
    CapabilitySet::CHOWN.union(CapabilitySet::DAC_OVERRIDE).union(CapabilitySet::FOWNER).union(CapabilitySet::FSETID);

/// Applies the plan's rules to this process, for good. What fails is said in words. Gives the descriptor at which calls
/// wait for the supervisor; nothing where such calls are refused instead, because someone listens here already.
pub(super) fn apply(plan: &Plan, rules: &Rules) -> Result<Option<OwnedFd>, String> {
    drop_capabilities()?;
    landlock(rules).map_err(|fault| format!("Landlock: {fault}"))?;
    let guarded = (rules.landlock_abi < LANDLOCK_ABI_SIGNALS).then(|| Guarded {
        processes: vec![plan.daemon_pid, plan.supervisor_pid],
        groups: vec![plan.daemon_group, plan.supervisor_pid],
    });
    let programs = filter::compile(rules.network, guarded.as_ref()).map_err(|fault| format!("seccomp: {fault}"))?;
    for program in &programs {
        seccompiler::apply_filter(program).map_err(|fault| format!("seccomp: {fault}"))?;
    }
    let handed = ownership::handed();
    let mut program = filter::handing_over(&handed).map_err(|fault| format!("seccomp: {fault}"))?;
    if let Ok(listener) = handed_calls::install(&mut program) {
        return Ok(Some(listener));
    }
    let program = filter::refusing(&handed).map_err(|fault| format!("seccomp: {fault}"))?;
    seccompiler::apply_filter(&program).map_err(|fault| format!("seccomp: {fault}"))?;
    Ok(None)
}

/// Takes capabilities out of reach of whatever is executed next. Only the privileged can, and only they need to.
fn drop_capabilities() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    for bit in 0..64 {
        let Some(capability) = CapabilitySet::from_bits(1 << bit) else { continue };
        let held = rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false);
        if held && !KEPT_CAPABILITIES.contains(capability) {
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                // A root without the right to do this has had its capabilities cut down already.
                Ok(()) | Err(rustix::io::Errno::PERM) => {}
                Err(fault) => return Err(format!("capabilities: {fault}")),
            }
        }
    }
    Ok(())
}

fn landlock(rules: &Rules) -> Result<(), Box<dyn std::error::Error>> {
    let abi = match rules.landlock_abi {
        0..LANDLOCK_ABI_FLOOR => return Err("its ABI is below the floor".into()),
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        6 => ABI::V6,
        _ => ABI::V7,
    };
    let all = AccessFs::from_all(abi);
    let read = AccessFs::from_read(abi);
    let write = all & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(all)?;
    if !rules.network && rules.landlock_abi >= 4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi))?;
    }
    if rules.landlock_abi >= LANDLOCK_ABI_SIGNALS {
        ruleset = ruleset.scope(Scope::from_all(abi))?;
    }
    let mut created = ruleset.create()?.no_new_privs(true);
    created = created.add_rules(path_beneath_rules(&rules.read_only, read))?;
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    created = created.add_rules(path_beneath_rules(WRITABLE_DEVICES, device))?;
    for path in &rules.read_write {
        created = created.add_rule(PathBeneath::new(PathFd::new(path)?, write))?;
    }
    match created.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        status => Err(format!("in force only in part: {status:?}").into()),
    }
}
