//! How much of a record a caller is shown. The whole line is what a journal's reader may have; a read-only caller follows
//! what agents do, and neither how the house is kept nor who knocked with which key.

use crate::domain::record::Record;
use crate::domain::stream::Stream;
use crate::journal::line;
use crate::services::authority::Role;

/// How much someone sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Each line, byte for byte.
    Whole,
    /// Records of sessions and runs, without requests and credentials.
    Part,
}

/// What someone sees of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The line as it is.
    Whole,
    /// This instead of the line.
    Part(Vec<u8>),
}

impl Sight {
    /// What this role sees.
    pub fn of(role: Role) -> Self {
        match role {
            Role::Admin | Role::Anonymous => Self::Whole,
            Role::ReadOnly => Self::Part,
        }
    }

    /// What is seen of the record in this line; nothing where it is not for such eyes, or is no record.
    pub fn line(self, text: &[u8]) -> Option<Seen> {
        match self {
            Self::Whole => Some(Seen::Whole),
            Self::Part => part(line::parse_record(text).ok()?).map(Seen::Part),
        }
    }
}

fn part(mut record: Record) -> Option<Vec<u8>> {
    match record.stream {
        Stream::Journal
        | Stream::Daemon
        | Stream::ControlPlane
        | Stream::Runtime
        | Stream::Vault
        | Stream::Ledger
        | Stream::ModelCall(_) => return None,
        Stream::Session(_) | Stream::Run(_) => {}
    }
    record.request = None;
    record.actor.credential = None;
    for above in &mut record.on_behalf_of {
        above.credential = None;
    }
    let mut out = Vec::new();
    line::render_record(&record, &mut out).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::actor::{Actor, ActorKind, CredentialRef};
    use crate::domain::event::Event;
    use crate::domain::ids::SessionId;
    use crate::domain::record::RequestFacts;
    use crate::domain::testing::plain_session;

    fn shown() -> Actor {
        let credential = Some(CredentialRef { id: "key-id".into(), fp: "finger".into() });
        Actor { kind: ActorKind::Token, id: "admin".into(), via: "http".into(), credential, verified: true }
    }

    fn record(stream: Stream, request: Option<RequestFacts>, actor: Actor) -> Record {
        let event = Event::SessionCreated(plain_session());
        Record { actor: actor.clone(), on_behalf_of: vec![actor], request, ..Record::by_system(7, 1, 5, stream, event) }
    }

    fn text(record: &Record) -> Vec<u8> {
        let mut out = Vec::new();
        line::render_record(record, &mut out).unwrap();
        out
    }

    #[test]
    fn a_read_only_caller_sees_a_sessions_record_without_its_request_and_credentials() {
        let stream = Stream::Session(SessionId::from_ulid(ulid::Ulid(1)));
        let request = RequestFacts {
            id: "req".into(),
            key: Some("secretkey1".into()),
            scope: "admin POST /v1/sessions".into(),
            body_mac: Some("mac".into()),
        };
        let line = text(&record(stream, Some(request), shown()));
        let without = text(&record(stream, None, Actor { credential: None, ..shown() }));
        assert_eq!(Sight::of(Role::ReadOnly).line(&line), Some(Seen::Part(without)));
        assert_eq!(Sight::of(Role::Admin).line(&line), Some(Seen::Whole));
        assert_eq!(Sight::of(Role::Anonymous).line(&line), Some(Seen::Whole));
    }
}
