//! Secrets: they go in and never come out, survive restarts under the right master key only, and can be taken back.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{BINARY, Daemon, House};

const KEY: &str = "sk-live-0123456789abcdefghij";
const OTHER: &str = "sk-live-9876543210zyxwvutsrq";
const SLOTS: &str = "auth/global-slots.json";

impl House {
    fn with_master_key() -> Self {
        let house = Self::new();
        let made = house.secrets(&["generate", "--to-file", house.path("master.key").to_str().unwrap()], "");
        assert!(made.status.success() && made.stdout.is_empty(), "{made:?}");
        house
    }

    /// Runs `chancery secrets …` on this house's state root.
    fn secrets(&self, words: &[&str], stdin: &str) -> Output {
        let mut command = Command::new(BINARY);
        command.arg("secrets").args(words).args(["--output", "json", "--state-root"]).arg(self.state());
        command.env_remove("CHANCERY_AUTH_STORE_MASTER_KEY_FILE");
        if self.path("master.key").exists() {
            command.env("CHANCERY_AUTH_STORE_MASTER_KEY_FILE", self.path("master.key"));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn told(&self, words: &[&str], stdin: &str) -> Value {
        let out = self.secrets(words, stdin);
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(out.status.success(), "{words:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_str(&text).unwrap()
    }

    fn code(&self, words: &[&str], stdin: &str) -> Value {
        let out = self.secrets(words, stdin);
        assert!(!out.status.success(), "{words:?}");
        serde_json::from_slice::<Value>(&out.stdout).unwrap()["code"].clone()
    }

    /// Every file of the state root with its bytes, but for the lock, which says who held it last.
    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else if path.file_name().unwrap() != "LOCK" {
                    found.insert(path.clone(), std::fs::read(&path).unwrap());
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(&self.state(), &mut found);
        found
    }

    /// A start that must refuse: its exit code and what it says.
    fn refused_start(&self) -> (i32, String) {
        let began = Instant::now();
        let out = self.command().output().unwrap();
        assert!(began.elapsed() < Duration::from_mins(1), "a refusal waits for nobody");
        (out.status.code().unwrap(), String::from_utf8(out.stderr).unwrap())
    }
}

impl Daemon {
    fn set_secret(&self, reference: &str, value: &str) -> Value {
        let body = json!({ "ref": reference, "provider": "openai", "value": value });
        let (status, view) = self.post("/v1/runtime/secrets", &body.to_string()).unwrap();
        assert_eq!(status, 200, "{view}");
        view
    }

    fn secret(&self, reference: &str) -> Value {
        let (status, view) = self.get(&format!("/v1/runtime/secrets/{reference}"));
        assert_eq!(status, 200, "{view}");
        view
    }

    fn delete(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.request(&self.token, "DELETE", path, "", "{}").unwrap();
        (status, serde_json::from_str(&body).unwrap())
    }
}

#[test]
fn a_secret_goes_in_and_only_what_is_known_about_it_comes_out() {
    let house = House::with_master_key();
    let daemon = house.start();
    let stored = daemon.set_secret("openai.prod", KEY);
    assert_eq!((&stored["version"], &stored["last4"], &stored["health"]), (&json!(1), &json!("ghij"), &json!("ok")));
    let again = house.told(&["set", "openai.prod", "--provider", "openai"], &format!("{OTHER}\n"));
    assert_eq!((&again["version"], &again["last4"], &again["leases_revoked"]), (&json!(2), &json!("tsrq"), &json!([])));
    assert_ne!(stored["fingerprint"], again["fingerprint"]);
    daemon.kill();
    let daemon = house.start();
    let view = daemon.secret("openai.prod");
    assert_eq!((&view["version"], &view["health"], &view["status"]), (&json!(2), &json!("ok"), &json!("active")));
    let versions: Vec<&Value> = view["versions"].as_array().unwrap().iter().map(|one| &one["version"]).collect();
    assert_eq!(versions, [&json!(1), &json!(2)]);
    assert_eq!(house.told(&["list"], "")["items"], json!([house.told(&["get", "openai.prod"], "")]));
    let stored = std::fs::read_to_string(house.state().join(SLOTS)).unwrap();
    assert_eq!(stored.matches("{\"org\":").count(), 1, "what is no longer used is not kept: {stored}");
    assert_eq!(std::fs::metadata(house.state().join(SLOTS)).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(daemon.delete("/v1/runtime/secrets/openai.prod").0, 200);
    assert_eq!(daemon.get("/v1/runtime/secrets/openai.prod").1["code"], "vault.slot_not_found");
    assert_eq!(daemon.delete("/v1/runtime/secrets/openai.prod").1["code"], "vault.slot_not_found");
    assert!(!std::fs::read_to_string(house.state().join(SLOTS)).unwrap().contains("{\"org\":"));
    assert_eq!(daemon.set_secret("openai.prod", KEY)["version"], 3, "versions are never used again");
    let in_clear = |(path, bytes): (&PathBuf, &Vec<u8>)| {
        [KEY, OTHER].iter().any(|key| bytes.windows(key.len()).any(|part| part == key.as_bytes())).then(|| path.clone())
    };
    assert_eq!(house.contents().iter().filter_map(in_clear).collect::<Vec<_>>(), Vec::<PathBuf>::new());
    assert!(!house.log().contains(KEY));
    assert!(daemon.stop().success());
    assert_eq!(house.verify(&house.state()).0, 0);
}

#[test]
fn what_is_wrong_with_a_secret_is_said_without_it_and_nothing_is_stored() {
    let house = House::with_master_key();
    let daemon = house.start();
    let long = "x".repeat(16 << 10) + "y";
    let cases = [
        (json!({ "ref": "Open AI", "provider": "openai", "value": KEY }), "request.invalid"),
        (json!({ "ref": "a", "provider": KEY, "value": KEY }), "request.invalid"),
        (json!({ "ref": "a", "provider": "openai", "value": "" }), "request.invalid"),
        (json!({ "ref": "openai.production", "provider": "openai", "value": "openai.production" }), "request.invalid"),
        (json!({ "ref": "a", "provider": "openai", "value": format!("{KEY}\n{KEY}") }), "request.invalid"),
        (json!({ "ref": "a", "provider": "openai", "value": long }), "request.invalid"),
        (json!({ "ref": "a", "provider": "openai", "value": [KEY] }), "request.malformed"),
        (json!({ "ref": "a", "provider": "openai" }), "request.malformed"),
    ];
    for (body, code) in cases {
        let (_, said) = daemon.post("/v1/runtime/secrets", &body.to_string()).unwrap();
        assert_eq!(said["code"], code, "{said}");
        assert!(!said.to_string().contains(KEY), "{said}");
    }
    assert_eq!(daemon.get("/v1/runtime/secrets").1["items"], json!([]));
    let readonly = std::fs::read_to_string(house.state().join("tokens/readonly.token")).unwrap();
    for (token, status) in [(readonly.trim(), 403), ("chy_nobody", 401)] {
        let body = json!({ "ref": "a", "provider": "openai", "value": KEY }).to_string();
        assert_eq!(daemon.request(token, "POST", "/v1/runtime/secrets", "", &body).unwrap().0, status);
        assert_eq!(daemon.request(token, "GET", "/v1/runtime/secrets", "", "").unwrap().0, status);
        let path = "/v1/runtime/auth/slots/a/revoke";
        assert_eq!(daemon.request(token, "POST", path, "", "{}").unwrap().0, status);
    }
}

#[test]
fn without_a_master_key_nothing_is_stored_and_the_daemon_says_so() {
    let house = House::new();
    let daemon = house.start();
    let body = json!({ "ref": "a", "provider": "openai", "value": KEY }).to_string();
    let (status, said) = daemon.post("/v1/runtime/secrets", &body).unwrap();
    assert_eq!((status, &said["code"]), (503, &json!("vault.locked")));
    assert_eq!(daemon.get("/v1/runtime/secrets").1, json!({ "items": [], "open": false, "unreadable": 0 }));
}

#[test]
fn a_wrong_missing_cut_or_loose_master_key_refuses_the_start_and_changes_nothing() {
    let house = House::with_master_key();
    let daemon = house.start();
    daemon.set_secret("openai.prod", KEY);
    assert!(daemon.stop().success());
    let good = std::fs::read_to_string(house.path("master.key")).unwrap();
    let before = house.contents();
    let write = |text: &str| {
        std::fs::write(house.path("master.key"), text).unwrap();
        std::fs::set_permissions(house.path("master.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let refuses = |code: &str| {
        let (exit, said) = house.refused_start();
        assert!(exit == 1 && said.contains(code), "{exit}: {said}");
        assert!(!said.contains(good.trim()), "{said}");
        assert_eq!(house.contents(), before);
    };
    let flipped = if good.starts_with('0') { good.replacen('0', "1", 1) } else { format!("0{}", &good[1..]) };
    for wrong in [flipped.as_str(), &good[..40], "", "not hexadecimal at all"] {
        write(wrong);
        refuses("state_root.master_key_mismatch");
    }
    std::fs::remove_file(house.path("master.key")).unwrap();
    refuses("state_root.master_key_mismatch");
    write(&good);
    std::fs::set_permissions(house.path("master.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    refuses("state_root.insecure_permissions");
    write(&good);
    // The store is gone: another key must not begin a second vault beside what the journal knows.
    let slots = std::fs::read(house.state().join(SLOTS)).unwrap();
    std::fs::remove_file(house.state().join(SLOTS)).unwrap();
    write(&flipped);
    let before = house.contents();
    for _ in 0..2 {
        let (exit, said) = house.refused_start();
        assert!(exit == 1 && said.contains("state_root.master_key_mismatch"), "{said}");
        assert_eq!(house.code(&["list", "--offline"], ""), "state_root.master_key_mismatch");
        assert_eq!(house.contents(), before, "nor does the journal grow with each refusal");
    }
    std::fs::write(house.state().join(SLOTS), slots).unwrap();
    let (exit, said) = house.refused_start();
    assert!(exit == 1 && said.contains("state_root.insecure_permissions"), "{said}");
    std::fs::set_permissions(house.state().join(SLOTS), std::fs::Permissions::from_mode(0o600)).unwrap();
    write(&good);
    assert_eq!(house.start().secret("openai.prod")["health"], "ok");
}

#[test]
fn a_flipped_bit_costs_one_secret_and_not_the_vault() {
    let house = House::with_master_key();
    let daemon = house.start();
    for name in ["a.key", "b.key", "c.key"] {
        daemon.set_secret(name, KEY);
    }
    assert!(daemon.stop().success());
    let mut bytes = std::fs::read(house.state().join(SLOTS)).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let at = text.find("\"ref\":\"b.key\"").unwrap();
    let at = at + text[at..].find("\"ciphertext\":\"").unwrap() + 20;
    bytes[at] ^= 1;
    std::fs::write(house.state().join(SLOTS), &bytes).unwrap();
    let daemon = house.start();
    let healths = |daemon: &Daemon| -> Vec<String> {
        let list = daemon.get("/v1/runtime/secrets").1;
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| format!("{} {}", item["ref"].as_str().unwrap(), item["health"].as_str().unwrap())).collect()
    };
    assert_eq!(healths(&daemon), ["a.key ok", "b.key corrupt", "c.key ok"]);
    let health = || daemon.get("/v1/status").1["health"].clone();
    let warned = health()["warnings"].as_array().unwrap().iter().any(|warning| {
        warning["code"] == "vault_slot_corrupt" && warning["detail"].as_str().unwrap().contains("b.key")
    });
    assert!(warned && health()["ok"] == false, "{}", health());
    assert!(daemon.stop().success());
    let new = house.path("new.key");
    let new = new.to_str().unwrap();
    house.secrets(&["generate", "--to-file", new], "");
    let refused = house.secrets(&rekey(new, &["--force"]), "");
    let said: Value = serde_json::from_slice(&refused.stdout).unwrap();
    let next = said["detail"].as_str().unwrap();
    assert!(said["code"] == "vault.slot_corrupt" && next.contains("b.key") && next.contains("secrets set"), "{said}");
    let daemon = house.start();
    daemon.set_secret("b.key", OTHER);
    assert_eq!(healths(&daemon), ["a.key ok", "b.key ok", "c.key ok"]);
    assert_eq!(daemon.get("/v1/status").1["health"]["ok"], true);
    assert!(daemon.stop().success());
    // What was struck is kept aside, and another master key opens the rest.
    let aside = std::fs::read(house.state().join("auth/global-slots.damaged.json")).unwrap();
    assert!(String::from_utf8_lossy(&aside).contains("\"ref\":\"b.key\""));
    assert_eq!(house.told(&rekey(new, &["--force"]), ""), json!({ "slots": 3, "resumed": false }));
}

#[test]
fn secrets_are_kept_offline_as_by_the_daemon_and_never_beside_it() {
    let house = House::with_master_key();
    assert_eq!(house.code(&["list", "--offline"], ""), "state_root.not_found");
    assert!(house.start().stop().success());
    let set = house.told(&["set", "xai.key", "--provider", "xai", "--offline"], KEY);
    assert_eq!((&set["version"], &set["provider"]), (&json!(1), &json!("xai")));
    std::fs::write(house.path("secret"), format!("{OTHER}\n")).unwrap();
    std::fs::set_permissions(house.path("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = house.path("secret");
    let words = ["set", "xai.key", "--provider", "xai", "--offline", "--from-file", file.to_str().unwrap()];
    assert_eq!(house.told(&words, "")["version"], 2);
    assert_eq!(house.told(&["list", "--offline"], "")["items"][0]["last4"], "tsrq");
    let daemon = house.start();
    assert_eq!(daemon.secret("xai.key")["health"], "ok");
    assert_eq!(house.code(&["set", "xai.key", "--provider", "xai", "--offline"], KEY), "state_root.locked");
    assert!(daemon.stop().success());
    assert_eq!(house.told(&["delete", "xai.key", "--offline"], "")["version"], 2);
    assert_eq!(house.told(&["list", "--offline"], "")["items"], json!([]));
    assert_eq!(house.verify(&house.state()).0, 0);
}

fn rekey<'w>(new: &'w str, more: &[&'w str]) -> Vec<&'w str> {
    [&["rekey", "--new-master-key-file", new], more].concat()
}

#[test]
fn another_master_key_takes_all_secrets_or_none() {
    let house = House::with_master_key();
    let daemon = house.start();
    daemon.set_secret("a.key", KEY);
    daemon.set_secret("b.key", OTHER);
    let new = house.path("new.key");
    let new = new.to_str().unwrap();
    house.secrets(&["generate", "--to-file", new], "");
    assert_eq!(house.code(&rekey(new, &["--force"]), ""), "state_root.locked");
    assert!(daemon.stop().success());
    assert_eq!(house.secrets(&rekey(new, &[]), "").status.code(), Some(2), "a copy or --force is demanded");
    let copy = house.path("copy");
    Command::new("cp").arg("-a").arg(house.state()).arg(&copy).status().unwrap();
    let whole = std::fs::read(copy.join(SLOTS)).unwrap();
    let cut = String::from_utf8(whole.clone()).unwrap().replacen("\"ref\":\"a.key\"", "\"ref\":\"z.key\"", 1);
    std::fs::write(copy.join(SLOTS), cut).unwrap();
    assert_eq!(house.code(&rekey(new, &["--backup", copy.to_str().unwrap()]), ""), "request.invalid");
    std::fs::write(copy.join(SLOTS), whole).unwrap();
    let segment = std::fs::read_dir(copy.join("journal")).unwrap().map(|file| file.unwrap().path()).min().unwrap();
    let sound = std::fs::read(&segment).unwrap();
    let mut struck = sound.clone();
    struck[sound.len() / 2] ^= 1;
    std::fs::write(&segment, struck).unwrap();
    let refused = house.secrets(&rekey(new, &["--backup", copy.to_str().unwrap()]), "");
    let said: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert!(said["detail"].as_str().unwrap().starts_with("The copy does not verify: journal/"), "{said}");
    std::fs::write(&segment, sound).unwrap();
    let done = house.told(&rekey(new, &["--backup", copy.to_str().unwrap()]), "");
    assert_eq!(done, json!({ "slots": 2, "resumed": false }));
    assert!(house.refused_start().1.contains("state_root.master_key_mismatch"));
    // As after a kill between the file and its record: the same command ends it.
    let itself = house.state();
    assert_eq!(house.code(&rekey(new, &["--backup", itself.to_str().unwrap()]), ""), "request.invalid");
    let again = house.told(&rekey(new, &["--backup", copy.to_str().unwrap()]), "");
    assert_eq!(again, json!({ "slots": 2, "resumed": true }));
    assert_eq!(house.told(&rekey(new, &["--force"]), ""), json!({ "slots": 2, "resumed": true }));
    std::fs::rename(new, house.path("master.key")).unwrap();
    let daemon = house.start();
    assert_eq!(daemon.secret("a.key")["health"], "ok");
    assert_eq!(daemon.secret("b.key")["health"], "ok");
    assert!(daemon.stop().success());
    assert_eq!(house.verify(&house.state()).0, 0);
}

#[test]
fn each_route_that_names_a_secret_is_granted_it_as_a_lease_would_be_given() {
    let house = House::with_master_key();
    let route = |id: &str| {
        let terms = format!("base_url = \"http://127.0.0.1:9/{id}\"\nauth_ref = \"{id}.key\"");
        format!("[routes.{id}]\ndriver = \"openai\"\ndefault_model = \"m\"\n{terms}\n")
    };
    let free = "version = 1\ndefault_route = \"free\"\n[routes.free]\ndriver = \"rehearsal\"\ndefault_model = \"m\"\n";
    std::fs::write(house.path("routes.toml"), [free, &route("one"), &route("two")].concat()).unwrap();
    let daemon = house.start();
    daemon.set_secret("one.key", KEY);
    let grant = |id: &str, provider: Value, state: &str| {
        json!({
            "subject": format!("route/{id}"), "ref": format!("{id}.key"), "provider": provider,
            "audience": "http://127.0.0.1:9", "source": "routes_file", "state": state, "active_leases": 0,
        })
    };
    let stands = |daemon: &Daemon, state: &str| {
        let expected = [grant("one", json!("openai"), state), grant("two", Value::Null, "slot_missing")];
        assert_eq!(daemon.get("/v1/runtime/auth/grants").1, json!({ "items": expected }));
    };
    stands(&daemon, "allowed");
    let subject = r#"{"subject":"route/one"}"#;
    daemon.post("/v1/runtime/auth/subjects/revoke", subject).unwrap();
    stands(&daemon, "subject_revoked");
    daemon.post("/v1/runtime/auth/subjects/reinstate", subject).unwrap();
    daemon.post("/v1/runtime/auth/slots/one.key/revoke", "{}").unwrap();
    stands(&daemon, "slot_revoked");
    daemon.set_secret("one.key", KEY);
    stands(&daemon, "allowed");
    assert!(daemon.stop().success());
    let slots = std::fs::read_to_string(house.state().join(SLOTS)).unwrap();
    std::fs::write(house.state().join(SLOTS), slots.replacen("\"version\":2", "\"version\":1", 1)).unwrap();
    let daemon = house.start();
    stands(&daemon, "slot_corrupt");
    let ready = daemon.get("/v1/status").1["provider_readiness"]["routes"].clone();
    let keys: Vec<&Value> = ready.as_array().unwrap().iter().map(|route| &route["credential_ready"]).collect();
    assert_eq!(keys, [&Value::Null, &json!(false), &json!(false)], "{ready}");
    let words = ["runtime", "auth", "grants", "--output", "json", "--state-root"];
    let said = Command::new(BINARY).args(words).arg(house.state()).output().unwrap().stdout;
    let said: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(said, daemon.get("/v1/runtime/auth/grants").1);
}

#[test]
fn a_revoked_secret_stays_revoked_until_another_is_stored() {
    let house = House::with_master_key();
    let daemon = house.start();
    daemon.set_secret("openai.prod", KEY);
    let (status, revoked) = daemon.post("/v1/runtime/auth/slots/openai.prod/revoke", "{}").unwrap();
    let expected = json!({ "ref": "openai.prod", "version": 1, "revoked": true, "leases_revoked": [] });
    assert_eq!((status, revoked), (200, expected));
    daemon.kill();
    let daemon = house.start();
    let view = daemon.secret("openai.prod");
    assert_eq!((&view["status"], &view["health"]), (&json!("revoked"), &json!("revoked")));
    assert_eq!(daemon.set_secret("openai.prod", OTHER)["status"], "active");
    let (_, said) = daemon.post("/v1/runtime/auth/subjects/revoke", r#"{"subject":"route/openai"}"#).unwrap();
    assert_eq!(said, json!({ "subject": "route/openai", "revoked": true, "leases_revoked": [] }));
    assert_eq!(daemon.get("/v1/runtime/auth/subjects").1["items"][0]["subject"], "route/openai");
    let (_, said) = daemon.post("/v1/runtime/auth/subjects/reinstate", r#"{"subject":"route/openai"}"#).unwrap();
    assert_eq!(said["revoked"], false);
    assert_eq!(daemon.get("/v1/runtime/auth/subjects").1["items"], json!([]));
    let nowhere = "/v1/runtime/auth/leases/lease_01HF7YAT00000000000000EASE/revoke";
    assert_eq!(daemon.post(nowhere, "{}").unwrap().1["code"], "vault.lease_not_found");
    assert_eq!(daemon.get("/v1/runtime/auth/leases").1["items"], json!([]));
}
