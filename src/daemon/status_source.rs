//! What `status` of this daemon looks at.

use std::sync::Arc;

use crate::config::addresses::Bind;
use crate::platform::tasks::Milestone;
use crate::services::clerk::Clerk;
use crate::services::credentials::Credentials;
use crate::services::past::Past;
use crate::services::published::Published;
use crate::services::snapshotter::Snapshotter;
use crate::services::state_root::StateRoot;
use crate::services::status::{ControlPlane, Readiness, StatusSource};
use crate::services::tokens::Tokens;

/// The parts of a daemon, as `status` looks at them.
pub(super) fn status_source(
    (clerk, published, begun): (&Clerk, &Published, &Milestone),
    (readiness, credentials): (Readiness, &Credentials),
    (sandbox, root): (&str, &StateRoot),
    (bound, tokens): (&Bind, &Option<Arc<Tokens>>),
    (snapshots, past): (&Snapshotter, &Past),
    build_digest: Option<String>,
) -> Arc<StatusSource> {
    Arc::new(StatusSource {
        clerk: clerk.clone(),
        begun: begun.clone(),
        published: published.clone(),
        control_plane: posture(bound, tokens.is_some()),
        sandbox: sandbox.to_owned(),
        tokens: tokens.clone(),
        folder: root.folder.clone(),
        readiness,
        credentials: credentials.clone(),
        snapshots: snapshots.clone(),
        build_digest,
        past: past.clone(),
    })
}

fn posture(bound: &Bind, bearer: bool) -> ControlPlane {
    ControlPlane {
        bind: bound.to_string(),
        loopback: bound.is_loopback(),
        auth_mode: if bearer { "bearer" } else { "none" },
    }
}
