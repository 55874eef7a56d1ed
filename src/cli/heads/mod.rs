//! The memory of heads: whoever changes something is told the newest signed note of the journal. The command keeps it,
//! and before it takes a newer one it demands the proof that the newer tree continues the one it knows. A daemon that
//! forgets, rewrites or shows two histories is found out by the first command that comes back.

mod continues;
mod epochs;
mod store;

use std::path::Path;

use data_encoding::BASE64;

use self::continues::{Judgement, judge};
pub use self::epochs::{Earlier, Lost, earlier};
pub use self::store::Kept;
use self::store::Store;
use super::client::Door;
use super::output::{escape, escape_lines, talk};
use crate::config::settings::Folders;
use crate::journal::keys::KeyRing;
use crate::journal::note::{Note, Origin, parse_verifier_key, verifier_key};
use crate::journal::recovery::read_root;
use crate::platform::clock::{Clock as _, SystemClock};
use crate::platform::files::Folder;

/// Attempts to write while other commands write as well.
const ATTEMPTS: u32 = 8;

/// Keeps heads for the user who runs the command.
pub struct Keeper {
    store: Option<Store>,
    /// The keys of the daemon's state root, where this user can read it.
    ring: Option<KeyRing>,
}

impl Keeper {
    /// The user's memory; `root` is where the daemon's keys may be readable.
    pub fn of_user(root: Option<&Path>) -> Self {
        let ring = root.and_then(|root| Folder::open(root).ok()).and_then(|folder| read_root(&folder).ok());
        Self { store: Store::of_user(&Folders::from_environment()), ring: ring.map(|(_, ring)| ring) }
    }

    /// Takes note of a head that came with an answer, base64. False where it does not continue the one that is kept;
    /// everything else that goes wrong is said and forgiven.
    pub fn saw(&self, door: &Door, head: &str) -> bool {
        let parsed = BASE64.decode(head.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(note) = parsed.as_deref().and_then(Note::parse) else {
            talk("warning: the answer's Chancery-Head is no signed note; it is not kept");
            return true;
        };
        let Some(store) = &self.store else {
            talk("warning: neither XDG_STATE_HOME nor HOME is set, so the journal's head is not kept");
            return true;
        };
        for _ in 0..ATTEMPTS {
            match self.step(store, door, &note) {
                Ok(Step::Done) => return true,
                Ok(Step::Again) => {}
                Ok(Step::Forked(kept, why)) => {
                    alarm(&kept, &note.render(), &why);
                    return false;
                }
                Err(why) => {
                    talk(&format!("warning: the journal's head is not kept: {}", escape(&why)));
                    return true;
                }
            }
        }
        talk("warning: the journal's head is not kept: too many commands write at the same time");
        true
    }

    fn step(&self, store: &Store, door: &Door, note: &Note) -> Result<Step, String> {
        let said = |error: std::io::Error| format!("{}: {error}", store.path().display());
        let old = store.kept(&note.origin).map_err(said)?;
        let new = match &old {
            None => self.first(door, note)?,
            Some(kept) => match judge(door, kept, note)? {
                Judgement::Known => return Ok(Step::Done),
                Judgement::Newer(new) => new,
                Judgement::Forked(why) => return Ok(Step::Forked(kept.note.clone(), why)),
            },
        };
        if !store.replace(&note.origin, old.as_ref(), &new).map_err(said)? {
            return Ok(Step::Again);
        }
        if old.is_none() && !self.tell_of_earlier(&store.of_other_epochs(&note.origin).map_err(said)?) {
            talk(&format!("First sight of the journal {}; from now on its key is trusted:", note.origin));
            talk(&format!("  {}", new.key));
        }
        Ok(Step::Done)
    }

    /// Says what becomes of heads that were kept under earlier epochs. False where there are none.
    fn tell_of_earlier(&self, kept: &[(Origin, Kept)]) -> bool {
        for (origin, kept) in kept {
            let epoch = origin.epoch;
            match self.ring.as_ref().map(|ring| earlier(ring, origin, kept)) {
                Some(Earlier::Within(_)) => talk(&format!("The journal continues {epoch} in a new epoch.")),
                Some(Earlier::Beyond(lost)) => {
                    talk(&format!("warning: {}", lost.told()));
                    talk("next: run `chancery verify`, which says whether a repair has named that loss");
                }
                Some(Earlier::Strange) | None => {
                    talk(&format!(
                        "warning: the journal was seen under {epoch} before, and nothing here leads from its key to"
                    ));
                    talk("the present one. next: run `chancery verify STATE_ROOT` on the daemon's machine");
                }
            }
        }
        !kept.is_empty()
    }

    /// The first note of a journal: its key is taken from the state root where that can be read, else as the daemon
    /// names it.
    fn first(&self, door: &Door, note: &Note) -> Result<Kept, String> {
        let local = self.ring.as_ref().and_then(KeyRing::newest).filter(|(origin, _)| *origin == note.origin);
        let key = match local {
            Some((origin, key)) => verifier_key(&origin.to_string(), &key),
            None => named_key(door, &note.origin)?,
        };
        let signed = parse_verifier_key(&key).is_some_and(|(_, key)| note.signed_by(&key));
        if !signed {
            return Err("the note is not signed by the key that the daemon names".to_owned());
        }
        Ok(Kept { key, note: note.render(), first_seen_at_ms: SystemClock.wall_ms() })
    }
}

enum Step {
    Done,
    Again,
    /// The kept note, and why the new one does not continue it.
    Forked(String, String),
}

/// The key that a daemon says it signs with.
fn named_key(door: &Door, origin: &Origin) -> Result<String, String> {
    let head = door.get("/v1/journal/head").map_err(|trouble| trouble.sentence())?;
    let key = head["verifier_key"].as_str().ok_or("the daemon names no key")?;
    match parse_verifier_key(key) {
        Some((name, _)) if name == origin.to_string() => Ok(key.to_owned()),
        Some(_) | None => Err("the daemon names a key of another journal".to_owned()),
    }
}

fn alarm(kept: &str, seen: &str, why: &str) {
    talk("!!! THE JOURNAL DOES NOT CONTINUE THE ONE SEEN BEFORE !!!");
    talk(&format!("{}.", escape(why)));
    for (name, note) in [("kept from before", kept), ("seen now", seen)] {
        talk(&format!("--- {name}"));
        escape_lines(note.trim_end()).lines().for_each(talk);
    }
    talk("---");
    talk(
        "next: keep both notes and a copy of the state root, and run `chancery verify STATE_ROOT` on the daemon's machine",
    );
}

/// What is kept of the same state root's other epochs, for `verify`.
pub fn kept_of_other_epochs(origin: &Origin) -> Result<Vec<(Origin, Kept)>, String> {
    match Store::of_user(&Folders::from_environment()) {
        None => Ok(Vec::new()),
        Some(store) => store.of_other_epochs(origin).map_err(|error| format!("{}: {error}", store.path().display())),
    }
}

/// What is kept of the journal with this origin, for `verify`.
pub fn kept(origin: &Origin) -> Result<Option<Kept>, String> {
    match Store::of_user(&Folders::from_environment()) {
        None => Ok(None),
        Some(store) => store.kept(origin).map_err(|error| format!("{}: {error}", store.path().display())),
    }
}
