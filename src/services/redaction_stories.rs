//! What becomes of a known secret on its way into the journal.

use super::desk::WritePath as _;
use super::testing::{Root, act, create_session, queue_run, stop};
use crate::domain::command::Command;
use crate::domain::limits::INLINE_PART_BYTES;
use crate::domain::reason::Reason;
use crate::domain::record::DEFAULT_ORG;
use crate::domain::session;
use crate::domain::testing::plain_session;
use crate::projections::Bodies as _;
use crate::vault::secret::Secret;

const KEY: &str = "sk-0123456789/abcdef";

#[test]
fn a_text_is_kept_without_a_known_secret_and_a_record_that_would_hold_one_is_refused() {
    let mut root = Root::roomy();
    let opened = root.start();
    opened.published.redactor().add("openai.prod", &Secret::parse(KEY.as_bytes()).unwrap());
    let encoded = data_encoding::HEXLOWER.encode(KEY.as_bytes());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let long = format!("{} {encoded}", "x".repeat(INLINE_PART_BYTES));
    for text in [format!("say {KEY}"), long] {
        let wanted = text.replace(KEY, "[redacted:openai.prod]").replace(&encoded, "[redacted:openai.prod]");
        let part = runtime.block_on(opened.clerk.keep(text, INLINE_PART_BYTES, None)).unwrap().part;
        assert_eq!(opened.published.text(&part), Some(wanted));
    }
    let before = opened.published.head().next_seq;
    for title in [KEY, &encoded] {
        let body = session::Created { title: Some(title.into()), ..plain_session() };
        let ask = session::Create { org: DEFAULT_ORG.to_owned(), body };
        let refusal = act(&opened, Command::CreateSession(ask)).unwrap_err();
        assert_eq!(refusal.reason, Reason::RequestInvalid);
        assert!(refusal.detail.contains("openai.prod") && !refusal.detail.contains(title), "{refusal}");
    }
    assert_eq!(opened.published.head().next_seq, before, "nothing was recorded");
    let session = create_session(&opened, "sk-0123456789");
    queue_run(&opened, session, "Do it.");
    stop(opened);
}
