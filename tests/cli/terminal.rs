//! What a person types at a terminal is taken for an answer only to the card that they can have read.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::House;

/// Two calls that wait for a person, one after the other.
const TWO_CARDS: &str = r#"version = 1
[[turns]]
steps = [{ call = "bash", input = { command = "wc -w notes.txt" } }]
[[turns]]
steps = [{ call = "bash", input = { command = "rm notes.txt" } }]
[[turns]]
steps = [{ text = "Done." }]
"#;

/// A command on a terminal of its own.
struct Seated {
    child: Child,
    keys: std::fs::File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Seated {
    fn at(house: &House, arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let side = || std::fs::OpenOptions::new().read(true).write(true).open(&name).unwrap();
        let mut command = house.command(arguments);
        let child = command.stdin(side()).stderr(side()).stdout(Stdio::null()).spawn().unwrap();
        let keys = std::fs::File::from(master);
        let mut reader = keys.try_clone().unwrap();
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut part = [0; 4_096];
            while let Ok(read @ 1..) = reader.read(&mut part) {
                if sender.send(part[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, keys, screen, seen: String::new() }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen shows this, and forgets what stood there up to it.
    fn sees(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let part = self.screen.recv_timeout(left).unwrap_or_else(|_| panic!("no {text:?} in {}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&part));
        }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pending(house: &House) -> Vec<String> {
    let list = house.ask(&["approvals", "list", "--pending"]);
    list["items"].as_array().unwrap().iter().map(|item| item["approval_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn keys_that_were_pressed_before_a_card_was_shown_decide_nothing() {
    let house = House::new();
    house.stop();
    std::fs::write(house.path("script.toml"), TWO_CARDS).unwrap();
    house.start();
    let session = house.session("typed ahead");
    let mut person = Seated::at(&house, &["runs", "start", &session, "count", "--follow"]);
    person.press("y\ny\n");
    person.sees("Allow it? [y/n]");
    std::thread::sleep(Duration::from_secs(1));
    let first = pending(&house);
    assert_eq!(first.len(), 1, "nothing is decided: {}", person.seen);
    // A colleague decides, and the key that was meant for this card comes when the next one stands there.
    assert_eq!(house.run(&["approvals", "allow", &first[0]]).code, 0);
    person.sees("approval.decided by");
    person.sees("rm notes.txt");
    person.sees("Allow it? [y/n]");
    std::thread::sleep(Duration::from_millis(200));
    person.press("y\n");
    person.sees("That was typed before this could be read");
    assert_eq!(pending(&house).len(), 1, "the second is not decided by a key that was meant for the first");
    std::thread::sleep(Duration::from_millis(500));
    person.press("n\n");
    person.sees("completed");
    assert!(house.path("work/notes.txt").exists(), "what was typed afterwards counts: it is denied");
    assert_eq!(person.child.wait().unwrap().code(), Some(0));
}
