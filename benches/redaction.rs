//! The scanner for known secrets over texts that hold none, against a search of the whole text for each secret as it is, in
//! turns within the same seconds: `cargo bench --bench redaction [-- prose base64]`.
//! The scanner looks for every encoding of each secret; the search knows one.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_docs,
    clippy::cast_precision_loss,
    reason = "a benchmark measures, prints, and may fail loudly"
)]

mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use chancery::vault::redaction::Redactor;
use chancery::vault::secret::Secret;
use data_encoding::{BASE64, HEXLOWER};
use memchr::memmem::Finder;
use sha2::{Digest as _, Sha256};

const SECRETS: usize = 100;
const TEXT_BYTES: usize = 16 << 10;
const ROUND: Duration = Duration::from_millis(500);
const ROUNDS: usize = 5;

/// Megabytes a second of something that is done to the text.
fn speed(text: &[u8], pass: impl Fn(&[u8])) -> f64 {
    let (began, mut passes) = (Instant::now(), 0_u32);
    while began.elapsed() < ROUND {
        pass(black_box(text));
        passes += 1;
    }
    f64::from(passes) * text.len() as f64 / 1e6 / began.elapsed().as_secs_f64()
}

fn race(name: &str, text: &[u8], (redactor, finders): (&Redactor, &[Finder<'_>])) {
    assert!(redactor.found(text).is_none(), "the texts hold no secret");
    let (mut ours, mut searched) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(speed(text, |text| drop(black_box(redactor.bytes(text)))));
        searched.push(speed(text, |text| assert!(finders.iter().all(|finder| black_box(finder.find(text)).is_none()))));
    }
    let what = format!("{SECRETS} secrets in {} KiB of {name}", text.len() >> 10);
    support::compare(&what, "MB/s", ours, ("a search for each", searched));
}

fn main() {
    let secrets: Vec<String> = (0..SECRETS)
        .map(|number| format!("sk-live-{}", HEXLOWER.encode(&Sha256::digest(number.to_le_bytes()))))
        .collect();
    let redactor = Redactor::default();
    redactor.set_secrets(secrets.iter().map(|text| (text[8..16].to_owned(), Secret::parse(text.as_bytes()).unwrap())));
    let finders: Vec<Finder<'_>> = secrets.iter().map(Finder::new).collect();
    let prose =
        b"The tests pass; what is left is `fn main() { run(\"all\") }` in src/main.rs, line 42.\n".repeat(TEXT_BYTES);
    let noise: Vec<u8> = (0..TEXT_BYTES).flat_map(|number| Sha256::digest(number.to_be_bytes())).collect();
    let base64 = BASE64.encode(&noise).into_bytes();
    println!("other programs use {:.0} % of the machine", support::foreign_load());
    for (name, text) in [("prose", prose), ("base64", base64)] {
        if support::chosen(name) {
            race(name, &text[..TEXT_BYTES], (&redactor, &finders));
        }
    }
}
