//! Who asks, and what they may do: the closed table of actions, and rights as values. A service method that takes
//! [`Authorized`] cannot be called by someone whose right was not checked.

use std::sync::Arc;

use crate::domain::actor::{Actor, ActorKind, CredentialRef};
use crate::domain::reason::{Reason, Refusal};

/// What a caller is to the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Holder of the admin token: everything.
    Admin,
    /// Holder of the read-only token: ordinary reads.
    ReadOnly,
    /// Nobody in particular, on a daemon that runs without authentication; may do everything.
    Anonymous,
}

impl Role {
    /// Name of the role in records, logs and idempotency scopes.
    pub fn name(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::ReadOnly => "readonly",
            Role::Anonymous => "anonymous",
        }
    }
}

/// What kind of right an action needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// An ordinary read: any caller.
    Read,
    /// A read that shows more than a read-only caller may see.
    SensitiveRead,
    /// A change.
    Write,
}

/// Declares the closed list of actions with their names and needs.
macro_rules! actions {
    ($($variant:ident = $name:literal, $need:ident;)*) => {
        /// Every action of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Action {
            /// Every action, in the order of the table.
            pub const ALL: &'static [Action] = &[$(Action::$variant),*];

            /// Stable name, such as `session.create`.
            pub fn name(self) -> &'static str {
                match self { $(Action::$variant => $name,)* }
            }

            /// What the action needs.
            pub fn need(self) -> Need {
                match self { $(Action::$variant => Need::$need,)* }
            }
        }
    };
}

actions! {
    StatusRead = "status.read", Read;
    OpenapiRead = "openapi.read", Read;
    MetricsRead = "metrics.read", Read;
    EventsRead = "events.read", Read;
    SessionCreate = "session.create", Write;
    SessionRead = "session.read", Read;
    SessionInput = "session.input", Write;
    SessionInterrupt = "session.interrupt", Write;
    SessionEnd = "session.end", Write;
    SessionErase = "session.erase", Write;
    SessionRoutePolicy = "session.route_policy", Write;
    RunStart = "run.start", Write;
    RunRead = "run.read", Read;
    RunCancel = "run.cancel", Write;
    RunDebugRead = "run.debug.read", SensitiveRead;
    ApprovalRead = "approval.read", Read;
    ApprovalDecide = "approval.decide", Write;
    QuestionRead = "question.read", Read;
    QuestionAnswer = "question.answer", Write;
    TaskRead = "task.read", Read;
    TaskStop = "task.stop", Write;
    RuntimeRead = "runtime.read", Read;
    RuntimeRevisionsRead = "runtime.revisions.read", SensitiveRead;
    RuntimeWrite = "runtime.write", Write;
    JournalHeadRead = "journal.head.read", Read;
    JournalRead = "journal.read", SensitiveRead;
    JournalRotateKey = "journal.rotate_key", Write;
    ReceiptRead = "receipt.read", SensitiveRead;
    SecretRead = "secret.read", SensitiveRead;
    SecretWrite = "secret.write", Write;
    AuthorityRevoke = "authority.revoke", Write;
    DeliveryRead = "delivery.read", Read;
    DeliveryWrite = "delivery.write", Write;
    ConnectorRead = "connector.read", Read;
    ConnectorWrite = "connector.write", Write;
    ScheduleRead = "schedule.read", Read;
    ScheduleWrite = "schedule.write", Write;
    BudgetRead = "budget.read", Read;
    BudgetWrite = "budget.write", Write;
    ModelRead = "model.read", Read;
    ModelCall = "model.call", Write;
    BackupRead = "backup.read", Read;
    BackupCreate = "backup.create", Write;
}

/// The table of rights: whether a role may do an action.
pub fn allowed(role: Role, action: Action) -> Result<(), Reason> {
    match (role, action.need()) {
        (Role::Admin | Role::Anonymous, Need::Read | Need::SensitiveRead | Need::Write)
        | (Role::ReadOnly, Need::Read) => Ok(()),
        (Role::ReadOnly, Need::SensitiveRead | Need::Write) => Err(Reason::AuthReadOnly),
    }
}

#[derive(Debug)]
struct CallerFacts {
    organisation: String,
    actor: Actor,
    role: Role,
    generation: u64,
}

/// Someone who asks, identified by the door they came through. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller(Arc<CallerFacts>);

impl Caller {
    /// The holder of one of the two file tokens. `generation` counts the changes of that file.
    pub(crate) fn token_holder(role: Role, credential: CredentialRef, via: &str, generation: u64) -> Self {
        let actor = Actor {
            kind: ActorKind::Token,
            id: role.name().to_owned(),
            via: via.to_owned(),
            credential: Some(credential),
            verified: true,
        };
        Self(Arc::new(CallerFacts { organisation: "default".to_owned(), actor, role, generation }))
    }

    /// Whoever reaches a daemon that runs without authentication.
    pub(crate) fn anonymous(via: &str) -> Self {
        let actor = Actor {
            kind: ActorKind::Token,
            id: Role::Anonymous.name().to_owned(),
            via: via.to_owned(),
            credential: None,
            verified: false,
        };
        Self(Arc::new(CallerFacts { organisation: "default".to_owned(), actor, role: Role::Anonymous, generation: 0 }))
    }

    /// The organisation that the caller acts in.
    pub fn organisation(&self) -> &str {
        &self.0.organisation
    }

    /// The actor, as records name it.
    pub fn actor(&self) -> &Actor {
        &self.0.actor
    }

    /// The caller's role.
    pub fn role(&self) -> Role {
        self.0.role
    }

    /// Which state of its token file the caller's token came from.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// The principal, as idempotency scopes name it: stable when a token is rotated.
    pub fn principal(&self) -> &str {
        &self.0.actor.id
    }

    /// The right to do this action, if the caller has it.
    pub fn authorize(&self, action: Action) -> Result<Authorized, Refusal> {
        match allowed(self.0.role, action) {
            Ok(()) => Ok(Authorized { caller: self.clone(), action }),
            Err(reason) => Err(Refusal::new(reason, format!("The token has no right to `{}`.", action.name()))),
        }
    }
}

/// The right of one caller to do one action. Exists only after the check.
#[derive(Debug, Clone)]
pub struct Authorized {
    caller: Caller,
    action: Action,
}

impl Authorized {
    /// Who may.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What they may.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Demands that the right is for this action; a service calls it first.
    pub fn demand(&self, action: Action) -> Result<&Caller, Refusal> {
        if self.action == action {
            Ok(&self.caller)
        } else {
            let detail = format!("the right is for {}, not for {}", self.action.name(), action.name());
            Err(Refusal::new(Reason::AuthorizationActionUnknown, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(role: Role) -> Caller {
        Caller::token_holder(role, CredentialRef { id: "x".into(), fp: "y".into() }, "http", 1)
    }

    #[test]
    fn a_read_only_caller_may_do_ordinary_reads_and_nothing_else() {
        for action in Action::ALL {
            let may = caller(Role::ReadOnly).authorize(*action);
            match action.need() {
                Need::Read => assert!(may.is_ok(), "{}", action.name()),
                Need::SensitiveRead | Need::Write => assert_eq!(may.unwrap_err().reason, Reason::AuthReadOnly),
            }
            assert!(caller(Role::Admin).authorize(*action).is_ok());
            assert!(Caller::anonymous("http").authorize(*action).is_ok());
        }
    }

    #[test]
    fn the_names_of_actions_are_unique() {
        let names: std::collections::BTreeSet<_> = Action::ALL.iter().map(|action| action.name()).collect();
        assert_eq!(names.len(), Action::ALL.len());
    }

    #[test]
    fn a_right_to_one_action_is_no_right_to_another() {
        let right = caller(Role::Admin).authorize(Action::RunStart).unwrap();
        assert!(right.demand(Action::RunStart).is_ok());
        assert_eq!(right.demand(Action::RunCancel).unwrap_err().reason, Reason::AuthorizationActionUnknown);
    }
}
