//! Where answers go besides the journal: the reply targets of a session and of a run.

use serde::{Deserialize, Serialize};

use super::command::invalid;
use super::limits::{CONNECTOR_NAME_BYTES, REPLY_ADDRESS_BYTES, REPLY_TARGETS};
use super::personal::Personal;
use super::reason::Refusal;

/// What kind of connector takes a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectorKind {
    /// Calls of a web address.
    Http,
    /// Slack.
    Slack,
    /// Telegram.
    Telegram,
    /// GitHub.
    Github,
    /// A program of somebody else's.
    External,
}

/// One target: a connector, and where in its world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplyTarget {
    /// What kind of connector.
    pub kind: ConnectorKind,
    /// Its name.
    pub name: String,
    /// Where in its world, such as a channel or a chat; the connector's own default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Personal>,
}

/// Checks reply targets. Whether a connector of that name exists is found out when something is to be delivered.
pub fn check_targets(targets: &[ReplyTarget]) -> Result<(), Refusal> {
    if targets.len() > REPLY_TARGETS {
        return Err(invalid("/reply_targets", format!("There are at most {REPLY_TARGETS} reply targets.")));
    }
    for (at, target) in targets.iter().enumerate() {
        let place = |part: &str| format!("/reply_targets/{at}{part}");
        let odd = |letter: char| !(letter.is_ascii_alphanumeric() || "_-.".contains(letter));
        let name = &target.name;
        if name.len() > CONNECTOR_NAME_BYTES || name.contains(odd) || name.trim_matches('.').is_empty() {
            let detail =
                format!("A connector's name has 1 to {CONNECTOR_NAME_BYTES} letters, digits, `_`, `-` or `.`.");
            return Err(invalid(place("/name"), detail));
        }
        let fine = |address: &Personal| {
            (1..=REPLY_ADDRESS_BYTES).contains(&address.bytes())
                && !address.clear().is_some_and(|text| text.chars().any(char::is_control))
        };
        if !target.address.as_ref().is_none_or(fine) {
            let detail = format!("An address has 1 to {REPLY_ADDRESS_BYTES} bytes without control characters.");
            return Err(invalid(place("/address"), detail));
        }
        if targets.iter().take(at).any(|other| other == target) {
            return Err(invalid(place(""), "This target stands there before."));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, address: Option<&str>) -> ReplyTarget {
        ReplyTarget { kind: ConnectorKind::Slack, name: name.to_owned(), address: address.map(Into::into) }
    }

    #[test]
    fn a_target_names_a_connector_and_a_place_in_its_world_once() {
        let long = "n".repeat(CONNECTOR_NAME_BYTES);
        let good = [target("ops", None), target("ops", Some("C01 #général")), target(&long, Some("x"))];
        assert_eq!(check_targets(&good), Ok(()));
        let other = ReplyTarget { kind: ConnectorKind::Http, ..target("ops", None) };
        assert_eq!(check_targets(&[target("ops", None), other]), Ok(()));
        let far = "x".repeat(REPLY_ADDRESS_BYTES + 1);
        for (bad, pointer) in [
            (target("", None), "/reply_targets/1/name"),
            (target("..", None), "/reply_targets/1/name"),
            (target("a/b", None), "/reply_targets/1/name"),
            (target("höhe", None), "/reply_targets/1/name"),
            (target(&format!("{long}n"), None), "/reply_targets/1/name"),
            (target("a", Some("")), "/reply_targets/1/address"),
            (target("a", Some("x\n")), "/reply_targets/1/address"),
            (target("a", Some(&far)), "/reply_targets/1/address"),
            (target("ops", None), "/reply_targets/1"),
        ] {
            let refusal = check_targets(&[target("ops", None), bad]).unwrap_err();
            assert_eq!(refusal.pointer.as_deref(), Some(pointer));
        }
        let many: Vec<_> = (0..=REPLY_TARGETS).map(|at| target(&format!("c{at}"), None)).collect();
        assert_eq!(check_targets(&many).unwrap_err().pointer.as_deref(), Some("/reply_targets"));
        assert_eq!(check_targets(&many[1..]), Ok(()));
    }
}
