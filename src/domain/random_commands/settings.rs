//! Random commands about secrets, who uses them, and the runtime configuration.

use super::{Step, any_run, any_session, pick};
use crate::domain::command::Command;
use crate::domain::ids::LeaseId;
use crate::domain::permission::{Behavior, Mode, Rule, RuleScope};
use crate::domain::record::DEFAULT_ORG;
use crate::domain::stream::Stream;
use crate::domain::testing::House;
use crate::domain::{credential, runtime, secret, session};

/// A use of the one secret of these stories: of its newest version, or of one that it never had.
pub(crate) fn any_credential(house: &House, how: u8) -> Option<credential::CredentialUse> {
    let slot = house.world.slot(DEFAULT_ORG, SECRET).filter(|_| !how.is_multiple_of(3))?;
    let version = if how.is_multiple_of(7) { slot.version + 1 } else { slot.version };
    let lease_id = LeaseId::from_ulid(ulid::Ulid(5_000 + house.records.len() as u128));
    Some(credential::CredentialUse { reference: SECRET.into(), version, fp: slot.fp.clone(), lease_id })
}

fn any_lease(house: &House, at: u8) -> LeaseId {
    let all = house.world.vault.leases.values().map(|lease| lease.lease_id).collect();
    pick(all, at, LeaseId::from_ulid(ulid::Ulid(9)))
}

const SECRET: &str = "openai.prod";

/// A command about secrets and who uses them.
fn command_about_secrets(house: &House, (_, at, how): Step) -> Command {
    let org = if how == 255 { "other".to_owned() } else { DEFAULT_ORG.to_owned() };
    let named = secret::Named { org: org.clone(), reference: SECRET.into() };
    let subject = match at % 3 {
        0 => Stream::Run(any_run(house, at)).to_string(),
        1 => Stream::Session(any_session(house, at)).to_string(),
        _ => "route/r".to_owned(),
    };
    let named_subject = credential::NamedSubject { org: org.clone(), subject };
    match how % 16 {
        0..=8 => {
            let newest = house.world.slot(&org, SECRET).map_or(0, |slot| slot.version);
            let body = secret::Activated {
                reference: SECRET.into(),
                provider: secret::Provider::Generic,
                version: newest + 1 + u64::from(at / 250),
                fp: format!("fp{at}"),
                last4: None,
                leases_revoked: Vec::new(),
            };
            Command::ActivateSecret(secret::Activate { org, body })
        }
        9 => Command::RevokeSecret(named),
        10 => Command::DeleteSecret(named),
        11 => Command::RevokeSubject(named_subject),
        12 => Command::ReinstateSubject(named_subject),
        13 => Command::KeyVault(secret::Key { check: format!("check{}", at % 2) }),
        _ => Command::RevokeLease(credential::NamedLease { org, lease_id: any_lease(house, at) }),
    }
}

/// A command about secrets or the runtime configuration.
pub(super) fn command_about_settings(house: &House, (kind, at, how): Step) -> Option<Command> {
    let org = if how == 255 { "other".to_owned() } else { DEFAULT_ORG.to_owned() };
    Some(match kind {
        13 => Command::SetPermissionMode(runtime::SetMode {
            org,
            mode: if how % 2 == 0 { Mode::Default } else { Mode::BypassPermissions },
            expected_revision: (how % 3 == 0).then_some(u64::from(at)),
        }),
        14 => Command::SetPermissionRules(runtime::SetRules {
            org,
            scope: if how % 2 == 0 { RuleScope::User } else { RuleScope::Session },
            rules: vec![Rule { tool: "bash".into(), behavior: Behavior::Allow }],
            expected_revision: None,
        }),
        15 => Command::TrustClock,
        16 => {
            let level = if how % 2 == 0 { runtime::DebugLevel::Off } else { runtime::DebugLevel::Full };
            Command::SetDebugLevel(runtime::SetDebugLevel { org, level, expected_revision: None })
        }
        38 | 39 => command_about_secrets(house, (kind, at, how)),
        21 if how % 4 == 3 => Command::SetRoutePolicy(session::SetRoutePolicy {
            org,
            session_id: any_session(house, at),
            choice: runtime::ModelChoice { route: None, model: Some("m".into()) },
        }),
        21 => Command::SetRuntimePart(runtime::SetPart {
            org,
            part: match how % 5 {
                0 => runtime::Part::Model(runtime::ModelChoice {
                    route: (how % 2 == 0).then(|| "r".into()),
                    model: None,
                }),
                1 => runtime::Part::SystemPrompt(runtime::SystemPrompt {
                    mode: runtime::PromptMode::Append,
                    text: if how % 2 == 0 { String::new() } else { "Be kind.".into() },
                }),
                2 => runtime::Part::Erasure(how % 2 == 0),
                _ => runtime::Part::ToolLimits(runtime::ToolLimits {
                    task_ms: Some(u64::from(how)),
                    ..runtime::ToolLimits::default()
                }),
            },
            expected_revision: None,
        }),
        20 => Command::RollBackRuntime(runtime::RollBack {
            org,
            to: runtime::Configuration { revision: u64::from(at % 8), ..runtime::Configuration::default() },
            expected_revision: (how % 3 == 0).then_some(u64::from(at)),
        }),
        _ => return None,
    })
}
