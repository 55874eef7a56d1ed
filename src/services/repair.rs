//! Repair of a state root that refuses to start, offline: what would be lost, and the repair itself.

use std::sync::Arc;

use serde::Serialize;
use ulid::Ulid;

use crate::domain::context;
use crate::domain::ids::{BootId, EpochId};
use crate::domain::journal::Repaired;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::world::World;
use crate::journal::writer::Options;
use crate::journal::{open, recovery, repair};
use crate::platform::clock::Clock;
use crate::platform::disk::Disk;
use crate::platform::entropy::Entropy;
use crate::platform::files::Folder;
use crate::platform::scratch;
use crate::projections::index;

/// Room that is prepared for the record of a repair, beside the names in it, bytes.
const RESERVE_BYTES: u64 = 64 << 10;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The state root starts as it is.
    NotNeeded,
    /// Nothing was done: so much would be lost, and that number was not accepted.
    WouldLose {
        /// How many sequence numbers.
        lost: u64,
        /// What would be recorded.
        repaired: Repaired,
    },
    /// It was repaired, and a daemon can start.
    Repaired {
        /// How many sequence numbers are lost.
        lost: u64,
        /// What was recorded.
        repaired: Repaired,
    },
}

/// Drops the index, which names places that a repair may move; the next start builds it anew.
pub fn drop_index(folder: &Folder) -> std::io::Result<()> {
    scratch::remove(&folder.path().join(index::FOLDER))
}

/// Repairs the state root on this disk, whose lock the caller holds, if exactly `accepted` sequence numbers are lost.
pub fn repair(
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
    entropy: &dyn Entropy,
    build: String,
    accepted: Option<u64>,
) -> Result<Outcome, Refusal> {
    let now = clock.wall_ms();
    let plan = match repair::begun(disk.as_ref())? {
        // Its loss was accepted when it began.
        Some(plan) => plan,
        None if !repair::is_needed(disk.as_ref())? => return Ok(Outcome::NotNeeded),
        None => {
            let plan = repair::plan(disk.as_ref(), EpochId::from_ulid(Ulid::from_parts(now, entropy.u128())))?;
            if accepted != Some(plan.lost()) {
                return Ok(Outcome::WouldLose { lost: plan.lost(), repaired: plan.repaired().clone() });
            }
            plan
        }
    };
    repair::execute(disk.as_ref(), &plan)?;
    let mut world = World::default();
    let recovered = recovery::read(disk.as_ref(), None, &mut |record| world.apply(&record))?;
    let context = context::Set {
        boot_id: BootId::from_ulid(Ulid::from_parts(now, entropy.u128())),
        wall_ms: 0,
        boot_ms: 0,
        build,
        config_revision: world.runtime.revision,
        policy_sha256: world.runtime.policy_digest(),
        price_table: None,
    };
    // Room for one small batch, and for the names of all files that were moved; the next start prepares what it needs.
    let named = serde_json::to_vec(plan.repaired()).map_err(|_| Reason::InternalError)?.len() as u64;
    let options = Options { background: false, reserve_bytes: RESERVE_BYTES + named, ..Options::default() };
    let (journal, _) = open::open(recovered, Arc::clone(disk), Arc::clone(clock), options, context)?;
    journal.close()?;
    Ok(Outcome::Repaired { lost: plan.lost(), repaired: plan.repaired().clone() })
}
