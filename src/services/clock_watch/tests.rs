//! What a clock that jumps may not do.

use super::*;
use crate::domain::command::Command;
use crate::domain::limits;
use crate::domain::reason::Reason;
use crate::domain::record::{DEFAULT_ORG, Draft, Provenance, RequestFacts};
use crate::domain::run;
use crate::domain::session;
use crate::domain::stream::Stream;
use crate::domain::testing::plain_session;
use crate::journal::line;
use crate::services::desk::{Lane, WritePath as _};
use crate::services::opening::Opened;
use crate::services::testing::{NOW_MS, Root, act, create_session, queue_run, stop};

const YEAR_MS: u64 = 365 * DAY_MS;

fn trust(opened: &Opened) -> ClockTrust {
    opened.published.models().clock.trust
}

/// Looks once and waits until that is done.
fn look(opened: &Opened) {
    opened.clerk.look_at_clock();
    // Decided after the look; changes nothing.
    let nothing = session::End {
        org: DEFAULT_ORG.to_owned(),
        session_id: crate::domain::ids::SessionId::from_ulid(ulid::Ulid(1)),
        note: None,
    };
    assert!(act(opened, Command::EndSession(nothing)).is_err());
}

fn kinds(opened: &Opened) -> Vec<String> {
    let mut kinds = Vec::new();
    let mut keep = |_, bytes: &[u8]| {
        kinds.extend(line::parse_record(bytes).ok().map(|record| record.event.kind().to_owned()));
        true
    };
    opened.published.reader().scan(0, u64::MAX, &mut keep).unwrap();
    kinds.retain(|kind| kind.starts_with("time."));
    kinds
}

/// Does what the daemon does first at a start.
fn begin(opened: &Opened, root: &Root) {
    if let Some(untrusted) = at_start(opened.found.last_at_ms, Reading::of(root.clock.as_ref())) {
        let draft = Draft::new(DEFAULT_ORG, Stream::Daemon, untrusted.into());
        act(opened, Command::Note(draft)).unwrap();
    }
}

/// Creates a session with an idempotency key; says whether that had been done before.
fn create_with_key(opened: &Opened) -> bool {
    let request = RequestFacts {
        id: "req".into(),
        key: Some("key".into()),
        scope: "admin POST /v1/sessions".into(),
        body_mac: Some("mac".into()),
    };
    let by = Provenance { request: Some(request), ..Provenance::system("test") };
    let ask = session::Create { org: DEFAULT_ORG.to_owned(), body: plain_session() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let done = runtime.block_on(opened.clerk.submit(Command::CreateSession(ask), by, Lane::Ordinary));
    done.unwrap().replayed
}

#[test]
fn ten_years_forward_nothing_lapses_and_nothing_is_forgotten_until_ten_quiet_minutes_have_passed() {
    let mut root = Root::new();
    let opened = root.start();
    assert!(!create_with_key(&opened));
    root.clock.advance(DAY_MS - HOUR_MS);
    look(&opened);
    assert_eq!(kinds(&opened), Vec::<String>::new(), "a day passes on both clocks");
    root.clock.jump_to(NOW_MS + 10 * YEAR_MS);
    // The sweep itself is what meets the jump first.
    assert_eq!(act(&opened, Command::ExpireApprovals).unwrap_err().reason, Reason::TimeUntrusted);
    assert_eq!(act(&opened, Command::ExpireQuestions).unwrap_err().reason, Reason::TimeUntrusted);
    assert_eq!((trust(&opened), kinds(&opened)), (ClockTrust::Jumped, vec!["time.untrusted".to_owned()]));
    assert!(opened.published.models().clock.warning().unwrap().contains("trust-clock"));
    create_session(&opened, "written in the wrong year");
    assert!(create_with_key(&opened), "what was done is not forgotten");
    look(&opened);
    root.clock.advance(QUIET_MS - 1);
    look(&opened);
    assert_eq!(trust(&opened), ClockTrust::Jumped);
    // Back to where it was: a further jump, and the quiet time begins again.
    root.clock.jump_to(NOW_MS + DAY_MS);
    look(&opened);
    root.clock.advance(QUIET_MS - 1);
    look(&opened);
    assert_eq!(trust(&opened), ClockTrust::Jumped);
    root.clock.advance(1);
    look(&opened);
    assert_eq!(
        (trust(&opened), kinds(&opened)),
        (ClockTrust::Trusted, vec!["time.untrusted".to_owned(), "time.trusted".to_owned()])
    );
    look(&opened);
    root.clock.advance(HOUR_MS);
    act(&opened, Command::ExpireApprovals).unwrap();
    assert_eq!(kinds(&opened).len(), 2, "both clocks are anchored anew");
    stop(opened);
}

#[test]
fn thirty_days_back_ids_and_numbers_rise_all_the_same_and_what_is_over_stays_over() {
    let mut root = Root::new();
    let opened = root.start();
    let session = create_session(&opened, "before");
    let run = queue_run(&opened, session, "a run");
    let ended = create_session(&opened, "ended");
    crate::services::testing::end_session(&opened, ended);
    let before = opened.published.head().next_seq;
    root.clock.jump_to(NOW_MS - 30 * DAY_MS);
    let later = create_session(&opened, "after");
    let later_run = queue_run(&opened, session, "another");
    assert!(later > session && later_run > run && opened.published.head().next_seq > before);
    assert_eq!(kinds(&opened), ["time.untrusted"]);
    let again = run::Cancel { org: DEFAULT_ORG.to_owned(), run_id: run, note: None };
    act(&opened, Command::CancelRun(again.clone())).unwrap();
    let row = opened.published.models().runs.get(run).unwrap().row;
    let queue = run::Queue {
        org: DEFAULT_ORG.to_owned(),
        session_id: ended,
        input: vec![run::InputItem::Text { text: "too late".into() }],
        route: None,
        model: None,
        max_turns: None,
        max_output_tokens: None,
        metadata: std::collections::BTreeMap::new(),
        reply_targets: None,
    };
    assert_eq!(act(&opened, Command::QueueRun(queue)).unwrap_err().reason, Reason::SessionEnded);
    assert_eq!(row.status, run::Status::Cancelled);
    let page =
        opened.published.models().session_page(DEFAULT_ORG, None, &crate::projections::Paging::default()).unwrap();
    let order: Vec<_> = page.items.iter().map(|facts| facts.id).collect();
    assert_eq!(order, [later, ended, session], "newest first is the order of creation, not of the clock");
    stop(opened);
}

#[test]
fn a_boot_in_1970_starts_and_trusts_no_time_until_an_operator_says_so() {
    let mut root = Root::new();
    root.clock.jump_to(1_000);
    let opened = root.start();
    begin(&opened, &root);
    assert_eq!(trust(&opened), ClockTrust::ImplausibleAtStart);
    create_session(&opened, "works");
    root.clock.advance(HOUR_MS);
    look(&opened);
    assert_eq!(trust(&opened), ClockTrust::ImplausibleAtStart, "quiet minutes do not mend it");
    assert_eq!(act(&opened, Command::ExpireApprovals).unwrap_err().reason, Reason::TimeUntrusted);
    root.clock.jump_to(NOW_MS);
    look(&opened);
    act(&opened, Command::TrustClock).unwrap();
    look(&opened);
    act(&opened, Command::ExpireApprovals).unwrap();
    assert_eq!(kinds(&opened), ["time.untrusted", "time.trusted"], "the operator's clock is the anchor");
    stop(opened);
    // The next start remembers, whatever its own clock says.
    root.clock.jump_to(2_000);
    let opened = root.start();
    begin(&opened, &root);
    stop(opened);
    root.clock.jump_to(NOW_MS + HOUR_MS);
    let opened = root.start();
    begin(&opened, &root);
    assert_eq!(trust(&opened), ClockTrust::ImplausibleAtStart);
    stop(opened);
}

#[test]
fn a_start_ten_years_ahead_forgets_no_request() {
    let mut root = Root::new();
    let opened = root.start();
    assert!(!create_with_key(&opened));
    stop(opened);
    root.clock.jump_to(NOW_MS + 10 * YEAR_MS);
    let opened = root.start();
    begin(&opened, &root);
    create_session(&opened, "another");
    assert!(create_with_key(&opened));
    stop(opened);
}

#[test]
fn a_start_is_implausible_an_hour_behind_or_thirty_days_ahead_of_the_last_record() {
    let drift = |last, wall_ms| at_start(last, Reading { wall_ms, boot_ms: 5 }).map(|found| found.drift_ms);
    let hour = i64::try_from(HOUR_MS).unwrap();
    assert_eq!(drift(Some(NOW_MS), NOW_MS - HOUR_MS), None);
    assert_eq!(drift(Some(NOW_MS), NOW_MS - HOUR_MS - 1), Some(-hour - 1));
    assert_eq!(drift(Some(NOW_MS), NOW_MS + 30 * DAY_MS), None);
    assert_eq!(drift(Some(NOW_MS), NOW_MS + 30 * DAY_MS + 1), Some(30 * 24 * hour + 1));
    assert_eq!(drift(None, NOW_MS), None);
    assert_eq!(drift(None, 0), Some(-i64::try_from(EARLIEST_MS).unwrap()));
    assert_eq!(drift(Some(1_000), 2_000), Some(2_000 - i64::try_from(EARLIEST_MS).unwrap()));
}

#[test]
fn a_drift_of_an_hour_is_none_and_a_little_more_is_one() {
    let at = |wall_ms, boot_ms| Reading { wall_ms, boot_ms };
    let mut watch = Watch::anchored(at(NOW_MS, 0));
    assert_eq!(watch.observe(ClockTrust::Trusted, at(NOW_MS + HOUR_MS + 7, 7)), None);
    assert_eq!(watch.observe(ClockTrust::Trusted, at(NOW_MS - HOUR_MS + 7, 7)), None);
    let now = at(NOW_MS + HOUR_MS + 8, 7);
    let wanted: Event = TimeUntrusted { wall_ms: now.wall_ms, boot_ms: 7, drift_ms: 3_600_001, at_start: false }.into();
    assert_eq!(watch.observe(ClockTrust::Trusted, now), Some(wanted.clone()));
    assert_eq!(watch.observe(ClockTrust::Trusted, now), Some(wanted), "it is said until it is recorded");
    const { assert!(limits::APPROVAL_MS > HOUR_MS) };
}
