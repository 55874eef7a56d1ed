//! Laws that hold for any sequence of commands.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::ledger::Subject;
use super::random_commands::{Step, command_of};
use super::record::DEFAULT_ORG;
use super::run::{Status, TurnStage};
use super::secret::SlotState;
use super::stream::Stream;
use super::testing::House;
use super::world::World;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0_u8..64, any::<u8>(), any::<u8>()), 0..160)
}

fn replayed(house: &House) -> World {
    let mut world = World::default();
    for record in &house.records {
        world.apply(record);
    }
    world
}

/// What must be true of every world.
fn check(world: &World) {
    for (id, run) in &world.runs {
        let session = &world.sessions[&run.session];
        let place =
            usize::from(session.active == Some(*id)) + session.queue.iter().filter(|queued| *queued == id).count();
        assert_eq!(place, 1, "{id} is either active or queued, once");
        assert_eq!(run.status == Status::Queued, run.claim.is_none());
        assert_eq!(run.status == Status::WaitingForApproval, run.approval.is_some());
        assert_eq!(run.status == Status::WaitingForUserQuestion, run.question.is_some());
        assert!(!run.status.terminal());
        assert!(run.turn <= run.max_turns);
    }
    for (holder, lease) in &world.vault.leases {
        let run = holder.run().and_then(|id| world.runs.get(&id));
        let asked = run.is_some_and(|run| run.turn_stage == TurnStage::Requested);
        let goes_on = holder.model_call().is_some_and(|id| world.model_calls.contains_key(&id));
        assert!(asked || goes_on, "a lease lasts as long as its call");
        let slot = &world.vault.slots[&lease.org][&lease.reference];
        let fine = slot.state == SlotState::Active && slot.version == lease.version;
        assert!(fine || lease.revoked, "no lease outlives its secret");
    }
    check_ledger(world);
    for (id, pending) in &world.approvals {
        assert_eq!(world.runs[&pending.run].approval, Some(*id), "a pending approval is what its run waits for");
    }
    for (id, pending) in &world.questions {
        assert_eq!(world.runs[&pending.run].question, Some(*id), "a pending question is what its run waits for");
    }
}

/// What is reserved is what is open, and nothing is open that has ended.
fn check_ledger(world: &World) {
    let mut reserved: BTreeMap<(&str, String), u64> = BTreeMap::new();
    for (stream, open) in world.ledger.all_open() {
        match stream {
            Stream::Run(id) => assert_eq!(world.runs[&id].turn_stage, TurnStage::Requested, "{id}"),
            Stream::ModelCall(id) => assert!(world.model_calls.contains_key(&id), "{id}"),
            other => panic!("{other} makes no call"),
        }
        let of = &open.reservation;
        let session = of.session_id.map(|id| format!("session:{id}"));
        let payers = ["organisation".to_owned(), format!("token:{}", of.principal), format!("route:{}", open.route)];
        for payer in payers.into_iter().chain(session) {
            *reserved.entry((&open.org, payer)).or_default() += of.micros;
        }
    }
    for id in world.model_calls.keys() {
        assert!(world.ledger.open(Stream::ModelCall(*id)).is_some(), "{id}");
    }
    for org in [DEFAULT_ORG, "other"] {
        for (subject, account) in world.ledger.accounts(org) {
            let expected = reserved.remove(&(org, subject.to_string())).unwrap_or(0);
            assert_eq!(account.reserved_micros, expected, "{subject}");
            if let Subject::Session(id) = subject {
                let lives = world.sessions.get(id).is_some_and(|session| !session.ended);
                assert!(lives || expected > 0, "nothing is kept of {id}");
            }
        }
    }
    assert_eq!(reserved.values().sum::<u64>(), 0, "all that is reserved stands in an account: {reserved:?}");
}

#[test]
fn random_stories_reach_every_kind_that_rules_decide() {
    let mut seen = std::collections::BTreeSet::new();
    let mut chance = 1_u64;
    let mut next = move || {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 40).to_le_bytes()
    };
    for _ in 0..400 {
        let mut house = House::new();
        for _ in 0..160 {
            let [kind, at, how, ..] = next();
            let command = command_of(&mut house, (kind % 64, at, how));
            let _ = house.act(command);
        }
        seen.extend(house.records.iter().map(|record| record.event.kind()));
    }
    let missing: Vec<&str> = super::event::Event::KINDS
        .iter()
        .map(|(kind, _)| *kind)
        .filter(|kind| !seen.contains(kind))
        .filter(|kind| {
            !["journal.", "daemon.", "routes.", "index.", "access_log.", "control_plane.", "context."]
                .iter()
                .any(|of| kind.starts_with(of))
        })
        .collect();
    assert_eq!(missing, [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_commands_lead_to_a_sound_world_that_a_replay_and_a_round_trip_agree_with(steps in steps()) {
        let mut house = House::new();
        for step in steps {
            let command = command_of(&mut house, step);
            let before = (house.world.clone(), house.records.len());
            if house.act(command).is_err() {
                prop_assert_eq!(&before.0, &house.world);
                prop_assert_eq!(before.1, house.records.len());
            }
            check(&house.world);
        }
        prop_assert_eq!(&replayed(&house), &house.world);
        prop_assert_eq!(&replayed(&house), &replayed(&house));
        let text = serde_json::to_string(&house.world).unwrap();
        prop_assert_eq!(&serde_json::from_str::<World>(&text).unwrap(), &house.world);
    }

    #[test]
    fn folding_records_in_any_order_and_any_number_never_fails(steps in steps(), order in prop::collection::vec(any::<u16>(), 0..200)) {
        let mut house = House::new();
        for step in steps {
            let command = command_of(&mut house, step);
            let _ = house.act(command);
        }
        let mut world = World::default();
        for at in order {
            if !house.records.is_empty() {
                world.apply(&house.records[usize::from(at) % house.records.len()]);
            }
        }
        let text = serde_json::to_string(&world).unwrap();
        prop_assert_eq!(serde_json::from_str::<World>(&text).unwrap(), world);
    }
}
