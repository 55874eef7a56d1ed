//! The rest of the interface against a real daemon: tasks, runtime, lists, rights, status, numbers, the description.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Daemon, House};

const ABSENT: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

impl House {
    pub(super) fn rehearse_script(&self, script: &str) -> Daemon {
        let folder = self.folder.path();
        std::fs::write(folder.join("script.toml"), script).unwrap();
        let routes = "version = 1\n[routes.practice]\ndriver = \"rehearsal\"\ndefault_model = \"rehearsal\"\nscript = \"script.toml\"\n";
        std::fs::write(folder.join("routes.toml"), routes).unwrap();
        self.start()
    }

    /// Every file of the journal, once nothing is written to it any more.
    fn settled_journal(&self) -> BTreeMap<String, Vec<u8>> {
        let look = || {
            let files = std::fs::read_dir(self.state().join("journal")).unwrap().map(Result::unwrap);
            let files = files.filter(|file| file.file_type().unwrap().is_file());
            files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut seen: BTreeMap<String, Vec<u8>> = look();
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let now = look();
            if now == seen {
                return seen;
            }
            assert!(Instant::now() < deadline, "the journal does not come to rest");
            seen = now;
        }
    }

    pub(super) fn readonly(&self) -> String {
        std::fs::read_to_string(self.state().join("tokens/readonly.token")).unwrap().trim().to_owned()
    }
}

impl Daemon {
    pub(super) fn start_run_in(&self, session: &str, words: &str) -> String {
        let body = json!({ "content": words }).to_string();
        let (status, run) = self.post(&format!("/v1/sessions/{session}/runs"), &body).unwrap();
        assert_eq!(status, 202, "{run}");
        run["run_id"].as_str().unwrap().to_owned()
    }

    pub(super) fn numbers(&self) -> String {
        self.request(&self.token, "GET", "/metrics", "", "").unwrap().1
    }

    /// The number of a metric without labels.
    pub(super) fn metric(&self, name: &str) -> Option<u64> {
        self.numbers().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    fn description(&self) -> Value {
        self.get("/v1/openapi.json").1
    }

    fn call(&self, token: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, text) = self.request(token, method, path, "", body).unwrap();
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {path}: {text}")))
    }

    fn items(&self, path: &str) -> Vec<Value> {
        let (status, page) = self.get(path);
        assert_eq!(status, 200, "{path}: {page}");
        page["items"].as_array().unwrap().clone()
    }
}

/// Every route of the description: method and pattern.
fn routes(description: &Value) -> Vec<(String, String)> {
    let mut routes = Vec::new();
    for (pattern, methods) in description["paths"].as_object().unwrap() {
        routes.extend(methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), pattern.clone())));
    }
    routes
}

/// A pattern with an id in place of each name.
fn filled(pattern: &str, id: impl Fn(&str) -> String) -> String {
    let part = |part: &str| match part.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
        Some(name) => id(name),
        None => part.to_owned(),
    };
    pattern.split('/').map(part).collect::<Vec<_>>().join("/")
}

fn absent(name: &str) -> String {
    match name {
        "ref" => "absent.secret".to_owned(),
        "budget" => "token:nobody:day".to_owned(),
        id => format!("{}_{ABSENT}", id.strip_suffix("_id").unwrap()),
    }
}

#[test]
fn a_background_task_is_listed_shown_page_by_page_and_stopped() {
    let command = "for i in 1 2 3 4 5; do echo line $i €; done; sleep 60";
    let input = json!({ "command": command, "background": true }).to_string();
    let script = format!(
        "version = 1\n[[turns]]\nsteps = [{{ call = \"bash\", input = '{input}' }}]\n[[turns]]\nsteps = [{{ text = \"done\" }}]\n"
    );
    let house = House::new();
    let daemon = house.rehearse_script(&script);
    let session = daemon.create().unwrap();
    let run = daemon.start_run_in(&session, "please");
    let approval = daemon.pending(&run);
    assert_eq!(daemon.decide(&approval, "allow").0, 200);
    daemon.wait_for(&run, "completed");
    let tasks = daemon.items("/v1/tasks");
    assert_eq!(tasks.len(), 1, "{tasks:?}");
    let id = tasks[0]["task_id"].as_str().unwrap();
    assert_eq!((tasks[0]["status"].as_str(), tasks[0]["run_id"].as_str()), (Some("in_progress"), Some(run.as_str())));
    assert_eq!(daemon.items(&format!("/v1/sessions/{session}/tasks?status=in_progress")), tasks);
    let other = daemon.create().unwrap();
    assert_eq!(daemon.items(&format!("/v1/sessions/{other}/tasks")), Vec::<Value>::new());
    assert_eq!(daemon.items("/v1/tasks?status=completed"), Vec::<Value>::new());
    assert_eq!(daemon.get(&format!("/v1/tasks/{id}")).1, tasks[0]);
    let wanted = (1..=5).map(|number| format!("line {number} €")).collect::<Vec<_>>().join("\n") + "\n";
    let page = |query: &str| daemon.get(&format!("/v1/tasks/{id}/output?{query}")).1;
    let deadline = Instant::now() + Duration::from_secs(10);
    while page("")["output_bytes"] != wanted.len() {
        assert!(Instant::now() < deadline, "{}", page(""));
        std::thread::sleep(Duration::from_millis(20));
    }
    let (mut text, mut offset) = (String::new(), 0);
    while offset < wanted.len() as u64 {
        let found = page(&format!("offset={offset}&limit=4"));
        assert_eq!((found["complete"].as_bool(), found["dropped_bytes"].as_u64()), (Some(false), Some(0)), "{found}");
        text.push_str(found["text"].as_str().unwrap());
        offset = found["next_offset"].as_u64().unwrap();
    }
    assert_eq!(text, wanted);
    assert_eq!(page("offset=100000")["code"], "request.invalid");
    assert_eq!(page("limit=0")["code"], "request.invalid");
    assert_eq!(page("offset=x")["code"], "request.malformed");
    let (status, stopping) = daemon.post(&format!("/v1/tasks/{id}/stop"), r#"{"reason":"enough"}"#).unwrap();
    assert_eq!((status, stopping["stop_requested"].as_bool()), (200, Some(true)), "{stopping}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while daemon.get(&format!("/v1/tasks/{id}")).1["status"] != "cancelled" {
        assert!(Instant::now() < deadline, "the task does not stop");
        std::thread::sleep(Duration::from_millis(20));
    }
    let whole = page("");
    assert_eq!((whole["text"].as_str(), whole["complete"].as_bool()), (Some(wanted.as_str()), Some(true)), "{whole}");
    assert!(daemon.stop().success());
    let daemon = house.start();
    assert_eq!(daemon.get(&format!("/v1/tasks/{id}/output")).1, whole, "output is there after a restart");
    assert!(daemon.stop().success());
}

#[test]
fn permissions_are_changed_by_revision_and_shown_in_status() {
    let house = House::new();
    let daemon = house.start();
    let (_, fresh) = daemon.get("/v1/runtime");
    assert_eq!((fresh["revision"].as_u64(), fresh["permission_mode"].as_str()), (Some(0), Some("default")));
    let body = r#"{"mode":"dont-ask","expected_revision":0}"#;
    let (status, set) = daemon.call(&daemon.token, "PUT", "/v1/runtime/permission-mode", body);
    assert_eq!((status, set["revision"].as_u64(), set["permission_mode"].as_str()), (200, Some(1), Some("dont-ask")));
    let (status, problem) =
        daemon.post("/v1/runtime/permission-mode", r#"{"mode":"plan","expected_revision":0}"#).unwrap();
    assert_eq!((status, problem["code"].as_str()), (409, Some("runtime.revision_conflict")));
    let rules = json!([{ "tool": "bash", "behavior": "deny" }]);
    let body = json!({ "scope": "project", "rules": rules }).to_string();
    let (status, set) = daemon.post("/v1/runtime/permission-rules", &body).unwrap();
    assert_eq!((status, &set["project_rules"], set["revision"].as_u64()), (200, &rules, Some(2)));
    assert_eq!(daemon.get("/v1/runtime").1, set);
    let (_, problem) = daemon.post("/v1/runtime/permission-mode", r#"{"mode":"sometimes"}"#).unwrap();
    assert_eq!(problem["code"], "request.malformed");
    let runtime = &daemon.get("/v1/status").1["runtime"];
    assert_eq!(*runtime, json!({ "permission_mode": "dont-ask", "revision": 2, "debug_level": "off" }));
    assert!(daemon.stop().success());
}

#[test]
fn waits_are_listed_by_session_run_and_status() {
    let question = r#"{ question = "Which?", options = [{ label = "this" }, { label = "that" }] }"#;
    let script = format!(
        "version = 1\n[[turns]]\nsteps = [{{ call = \"ask_user_question\", input = {question} }}]\n\
         [[turns]]\nsteps = [{{ call = \"bash\", input = {{ command = \"true\" }} }}]\n\
         [[turns]]\nsteps = [{{ text = \"done\" }}]\n"
    );
    let house = House::new();
    let daemon = house.rehearse_script(&script);
    let (mine, other) = (daemon.create().unwrap(), daemon.create().unwrap());
    let run = daemon.start_run_in(&mine, "please");
    daemon.wait_for(&run, "waiting_for_user_question");
    let questions = daemon.items(&format!("/v1/runs/{run}/questions?status=pending"));
    assert_eq!(questions.len(), 1);
    for path in [
        format!("/v1/sessions/{mine}/questions"),
        format!("/v1/questions?session_id={mine}"),
        format!("/v1/questions?run_id={run}&status=pending"),
    ] {
        assert_eq!(daemon.items(&path), questions, "{path}");
    }
    for path in [
        format!("/v1/sessions/{other}/questions"),
        "/v1/questions?status=declined".to_owned(),
        format!("/v1/runs/{run}/approvals"),
    ] {
        assert_eq!(daemon.items(&path), Vec::<Value>::new(), "{path}");
    }
    let waiting = daemon.items("/v1/runs?status=waiting_for_user_question");
    assert_eq!(waiting.iter().map(|view| view["run_id"].as_str()).collect::<Vec<_>>(), [Some(run.as_str())]);
    assert_eq!(daemon.items(&format!("/v1/sessions/{mine}/runs?status=queued")), Vec::<Value>::new());
    let id = questions[0]["question_id"].as_str().unwrap();
    assert_eq!(daemon.post(&format!("/v1/questions/{id}/decline"), "{}").unwrap().0, 200);
    let approval = daemon.pending(&run);
    assert_eq!(daemon.items(&format!("/v1/sessions/{mine}/approvals?status=pending")), std::slice::from_ref(&approval));
    assert_eq!(daemon.decide(&approval, "deny").0, 200);
    daemon.wait_for(&run, "completed");
    assert_eq!(daemon.items("/v1/approvals?status=denied").len(), 1);
    assert!(daemon.stop().success());
}

#[test]
fn lists_refuse_cursors_limits_and_filters_that_they_do_not_know() {
    let house = House::new();
    let daemon = house.start();
    let session = daemon.create().unwrap();
    let lists = ["/v1/sessions", "/v1/runs", "/v1/approvals", "/v1/questions", "/v1/tasks"].map(str::to_owned);
    let of_session = ["runs", "approvals", "questions", "tasks"].map(|noun| format!("/v1/sessions/{session}/{noun}"));
    for path in lists.iter().chain(&of_session) {
        for (query, status, code) in [
            ("limit=0", 422, "request.invalid"),
            ("limit=501", 422, "request.invalid"),
            ("limit=many", 400, "request.malformed"),
            ("cursor=%21", 400, "cursor.malformed"),
            ("cursor=AAAA", 400, "cursor.malformed"),
            ("status=unheard-of", 400, "request.malformed"),
            ("colour=red", 400, "request.malformed"),
        ] {
            let (found, problem) = daemon.get(&format!("{path}?{query}"));
            assert_eq!((found, problem["code"].as_str()), (status, Some(code)), "{path}?{query}: {problem}");
        }
        assert_eq!(daemon.get(&format!("{path}?limit=1")).0, 200, "the control of {path}");
    }
    assert!(daemon.stop().success());
}

#[test]
fn a_query_names_only_what_its_route_knows_and_the_refusal_names_the_parameter() {
    let house = House::new();
    let daemon = house.start();
    let session = daemon.create().unwrap();
    let own = |name: &str| if name == "session_id" { session.clone() } else { absent(name) };
    let mut looked = 0;
    for (method, pattern) in routes(&daemon.description()) {
        looked += 1;
        let path = format!("{}?colour=red", filled(&pattern, own));
        let body = if method == "GET" { "" } else { "{}" };
        let (status, problem) = daemon.call(&daemon.token, &method, &path, body);
        if problem.get("error").is_some() {
            // The paths of model clients answer in the clients' own shapes.
            assert!(status == 400 && problem.to_string().contains("request.malformed"), "{method} {path}: {problem}");
            assert!(problem.to_string().contains("`colour`"), "{method} {path}: {problem}");
            continue;
        }
        let found = (status, problem["code"].as_str(), problem["pointer"].as_str());
        assert_eq!(found, (400, Some("request.malformed"), Some("/colour")), "{method} {path}: {problem}");
    }
    assert!(looked >= 40, "only {looked} routes");
    for (path, name) in [
        ("/v1/runs?limit=abc", "limit"),
        ("/v1/runs?limit=1&limit=2", "limit"),
        ("/v1/sessions?status=nope", "status"),
        ("/v1/journal/proof?seq=-1", "seq"),
    ] {
        let (status, problem) = daemon.get(path);
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!(
            (status, problem["pointer"].as_str()),
            (400, Some(format!("/{name}").as_str())),
            "{path}: {problem}"
        );
        assert!(detail.starts_with(&format!("query parameter `{name}`: ")), "{path}: {detail}");
    }
    for limit in [0, 10_001] {
        let (status, problem) = daemon.get(&format!("/v1/journal/records?limit={limit}"));
        assert_eq!((status, problem["pointer"].as_str()), (422, Some("/limit")), "{problem}");
    }
    let (status, problem) = daemon.get("/v1/journal/proof?old=6&new=4");
    assert!(status == 422 && problem["detail"].as_str().unwrap().contains("not larger than `new`"), "{problem}");
    assert_eq!(daemon.get("/v1/runs?limit=1").0, 200);
    assert!(daemon.stop().success());
}

#[test]
fn a_read_only_token_changes_nothing_on_any_route() {
    let house = House::new();
    let daemon = house.start();
    let readonly = house.readonly();
    let session = daemon.create().unwrap();
    let own = |name: &str| if name == "session_id" { session.clone() } else { absent(name) };
    let before = house.settled_journal();
    let mut changing = 0;
    for (method, pattern) in routes(&daemon.description()) {
        // The check of a permission asks what would be; its body says about what.
        if method == "GET" || pattern == "/v1/runtime/permissions/check" {
            continue;
        }
        changing += 1;
        let path = filled(&pattern, own);
        for (method, path, headers, body) in [
            (method.as_str(), path.clone(), "", "{}"),
            (&method, path.clone(), "X-HTTP-Method-Override: GET\r\nX-Method-Override: GET\r\n", "{}"),
            (&method, format!("{path}?_method=GET"), "X-HTTP-Method: GET\r\n", "{}"),
        ] {
            let (status, problem) = daemon.request(&readonly, method, &path, headers, body).unwrap();
            assert!(status == 403 && problem.contains("auth.read_only"), "{method} {path}: {problem}");
        }
        for disguised in ["GET", "HEAD", "OPTIONS", "PATCH", "DELETE"] {
            let headers = format!("X-HTTP-Method-Override: {method}\r\nX-HTTP-Method: {method}\r\n");
            let (status, answer) = daemon.request(&readonly, disguised, &path, &headers, "").unwrap();
            assert!([200, 403, 404, 405].contains(&status), "{disguised} for {method} {path}: {answer}");
        }
    }
    assert!(changing >= 14, "only {changing} routes change something");
    assert!(house.settled_journal() == before, "the journal is as it was, byte for byte");
    assert_eq!(daemon.call(&readonly, "GET", &format!("/v1/sessions/{session}"), "").0, 200);
    daemon.create().unwrap();
    assert!(house.settled_journal() != before, "the control: the admin's call leaves a record");
    assert!(daemon.stop().success());
}

#[test]
fn a_hundred_equal_requests_at_a_time_have_one_effect_and_so_has_one_after_a_kill() {
    let house = House::new();
    let daemon = house.start();
    let ask = |daemon: &Daemon, body: &str| {
        let key = "Idempotency-Key: hundred\r\n";
        let (status, text) = daemon.request(&daemon.token, "POST", "/v1/sessions", key, body).unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        (status, answer["session_id"].as_str().or(answer["code"].as_str()).unwrap().to_owned())
    };
    let at_once = |body: &str| {
        std::thread::scope(|scope| {
            let asked: Vec<_> = (0..100).map(|_| scope.spawn(|| ask(&daemon, body))).collect();
            asked.into_iter().map(|one| one.join().unwrap()).collect::<BTreeSet<_>>()
        })
    };
    let made = at_once(r#"{"title":"one"}"#);
    assert_eq!(made.len(), 1, "{made:?}");
    let first = made.first().unwrap().clone();
    assert_eq!(first.0, 201);
    let other = at_once(r#"{"title":"two"}"#);
    assert_eq!(other, [(409, "request.idempotency_mismatch".to_owned())].into());
    daemon.kill();
    let daemon = house.start();
    assert_eq!(ask(&daemon, r#"{"title":"one"}"#), first);
    assert_eq!(daemon.journal().matches("\"session.created\"").count(), 1);
    assert!(daemon.stop().success());
}

#[test]
fn an_id_that_is_none_looks_exactly_like_one_that_is_absent() {
    let house = House::new();
    let daemon = house.start();
    let mut looked = 0;
    for (method, pattern) in routes(&daemon.description()) {
        if method != "GET" || !pattern.contains('{') {
            continue;
        }
        looked += 1;
        let look = |id: &dyn Fn(&str) -> String| {
            let (status, mut problem) = daemon.get(&filled(&pattern, id));
            problem.as_object_mut().unwrap().remove("request_id");
            (status, problem)
        };
        let missing = look(&absent);
        assert_eq!(missing.0, 404, "{pattern}: {}", missing.1);
        for strange in ["x", "session_1", "run_00000000000000000000000000000"] {
            assert_eq!(look(&|_: &str| strange.to_owned()), missing, "{pattern} with {strange}");
        }
    }
    assert!(looked >= 16, "only {looked} routes have an id");
    assert!(daemon.stop().success());
}

#[test]
fn status_has_every_path_that_probes_read_and_a_fresh_daemon_is_well() {
    let house = House::new();
    let daemon = house.start();
    let (_, status) = daemon.get("/v1/status");
    for path in [
        "/health/ok",
        "/health/warnings",
        "/storage/ok",
        "/storage/probes/0/ok",
        "/provider_readiness/active_route_ready",
        "/provider_readiness/routes/0/last_outcome",
        "/provider_readiness/error_route_count",
        "/runs/running",
        "/runs/queued",
        "/runs/waiting_for_approval",
        "/runs/waiting_for_user_question",
        "/runs/oldest_queued_run_age_ms",
        "/runs/oldest_non_terminal_run_idle_ms",
        "/delivery/pending",
        "/delivery/unresolved_dead_lettered",
        "/runtime/debug_level",
        "/runtime/permission_mode",
        "/runtime/revision",
        "/control_plane/bind",
        "/control_plane/loopback",
        "/control_plane/auth_mode",
        "/journal/size",
        "/journal/root",
        "/journal/key_id",
        "/journal/last_seal_age_ms",
        "/journal/snapshot_seq",
        "/projections/0/lag",
        "/projections/0/last_error",
        "/build/version",
        "/build/digest",
        "/backup/last_success_at_ms",
        "/backup/last_drill_at_ms",
    ] {
        assert!(status.pointer(path).is_some(), "{path} is missing in {status}");
    }
    assert_eq!(status["health"]["ok"], true, "{}", status["health"]);
    let warnings: Vec<_> = status["health"]["warnings"].as_array().unwrap().iter().collect();
    assert!(warnings.iter().any(|one| one["code"] == "rehearsal_only" && one["severity"] == "advice"), "{warnings:?}");
    assert_eq!(status["provider_readiness"]["active_route_ready"], true);
    assert_eq!(status["journal"]["key_id"], daemon.get("/v1/journal/head").1["key_id"]);
    let digest = status["build"]["digest"].as_str().unwrap();
    let summed = std::process::Command::new("sha256sum").arg(super::BINARY).output().unwrap().stdout;
    assert!(String::from_utf8(summed).unwrap().starts_with(digest), "the digest is that of the binary");
    let context = daemon.journal().lines().find(|line| line.contains("\"context.set\"")).unwrap().to_owned();
    assert!(context.contains(digest), "{context}");
    assert!(daemon.stop().success());
}

#[test]
fn a_route_that_fails_shows_in_status_and_in_the_numbers() {
    let script = "version = 1\n[[turns]]\nsteps = [{ error = \"provider.rejected\", detail = \"no\" }]\n";
    let house = House::new();
    let daemon = house.rehearse_script(script);
    let run = daemon.start_run();
    daemon.wait_for(&run, "failed");
    let (_, status) = daemon.get("/v1/status");
    let route = &status["provider_readiness"]["routes"][0];
    assert_eq!((route["route_id"].as_str(), route["active"].as_bool()), (Some("practice"), Some(true)));
    assert_eq!(route["last_outcome"]["code"], "provider.rejected", "{route}");
    assert_eq!(status["runs"]["failed"], 1);
    let numbers = daemon.numbers();
    for line in [
        "chancery_provider_requests_total{route=\"practice\",outcome=\"provider.rejected\"} 1",
        "chancery_provider_seconds_count{route=\"practice\"} 1",
        "chancery_runs{status=\"failed\"} 1",
    ] {
        assert!(numbers.lines().any(|found| found.starts_with(line)), "{line} is missing in\n{numbers}");
    }
    assert!(daemon.stop().success());
}

#[test]
fn the_numbers_have_the_names_that_dashboards_read_and_none_names_an_object() {
    let house = House::new();
    let daemon = house.start();
    let run = daemon.start_run();
    daemon.wait_for(&run, "completed");
    assert_eq!(daemon.call("chy_nobody", "GET", "/v1/status", "").0, 401);
    let numbers = daemon.numbers();
    for name in [
        "http_requests_total{",
        "http_request_seconds_bucket{",
        "journal_batch_records_count ",
        "journal_sync_seconds_sum ",
        "journal_size ",
        "projection_lag_events{projection=\"models\"} 0",
        "command_queue_depth 0",
        "command_oldest_age_seconds 0",
        "runs{status=\"completed\"} 1",
        "waits{kind=\"approval\"} 0",
        "token_problems 0",
        "vault_reveal_failures_total 0",
        "vault_leases_refused_total{cause=\"used\"} 0",
        "quota_rejections_total{code=\"budget.exceeded\"} 0",
        "sse_connections 0",
        "sse_reconnects_total 0",
        "provider_requests_total{",
        "provider_seconds_bucket{",
        "auth_failures_total{code=\"auth.invalid\"} 1",
        "worker_heartbeat_age_seconds{worker=\"runs\"} ",
    ] {
        let wanted = format!("chancery_{name}");
        assert!(numbers.lines().any(|line| line.starts_with(&wanted)), "{wanted} is missing in\n{numbers}");
    }
    assert!(daemon.metric("chancery_journal_batch_records_count") > Some(3));
    let sync = numbers.lines().find_map(|line| line.strip_prefix("chancery_journal_sync_seconds_sum "));
    assert!(sync.unwrap().parse::<f64>().unwrap() > 0.0, "syncs take time, to the microsecond");
    assert!(!numbers.contains(run.as_str()) && !numbers.contains(&daemon.token));
    std::fs::write(house.state().join("tokens/readonly.token"), "half").unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !daemon.numbers().contains("\nchancery_token_problems 1") {
        assert!(std::time::Instant::now() < deadline, "a broken token file is not counted: {}", house.log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(daemon.stop().success());
}

#[test]
fn the_description_names_every_route_of_the_interface_and_is_sound() {
    let house = House::new();
    let daemon = house.start();
    let description = daemon.description();
    let named: BTreeSet<String> =
        routes(&description).into_iter().map(|(method, pattern)| format!("{method} {pattern}")).collect();
    for route in [
        "GET /v1/status",
        "GET /v1/tasks",
        "GET /v1/tasks/{task_id}",
        "GET /v1/tasks/{task_id}/output",
        "POST /v1/tasks/{task_id}/stop",
        "GET /v1/sessions/{session_id}/tasks",
        "GET /v1/sessions/{session_id}/events",
        "GET /v1/sessions/{session_id}/stream",
        "GET /v1/sessions/{session_id}/approvals",
        "GET /v1/sessions/{session_id}/questions",
        "GET /v1/runs/{run_id}/events",
        "GET /v1/runs/{run_id}/stream",
        "GET /v1/runs/{run_id}/approvals",
        "GET /v1/runs/{run_id}/questions",
        "GET /v1/runtime",
        "PUT /v1/runtime/permission-mode",
        "POST /v1/runtime/permission-mode",
        "PUT /v1/runtime/permission-rules",
    ] {
        assert!(named.contains(route), "{route} is missing in {named:?}");
    }
    let mut references = Vec::new();
    collect(&description, &mut references);
    assert!(references.len() > 20);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(description.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    for (pattern, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let at = format!("{method} {pattern}");
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{at}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("default") && responses.len() == 2, "{at}");
            let media: Vec<&String> = responses
                .values()
                .filter_map(|answer| answer["content"].as_object())
                .flat_map(|all| all.keys())
                .collect();
            assert!(
                responses.values().all(|answer| answer["content"].is_object() || answer["$ref"].is_string()),
                "{at}"
            );
            let streams = media.iter().any(|media| *media == "text/event-stream");
            assert_eq!(streams, pattern.ends_with("/stream"), "{at}: {media:?}");
            assert_eq!(streams, operation["parameters"].to_string().contains("Last-Event-ID"), "{at}");
            let declared: BTreeSet<&str> = operation["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let used: BTreeSet<&str> =
                pattern.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            assert_eq!(declared, used, "{at}");
            if responses.values().any(|response| response.to_string().contains("/Page")) {
                let asks = operation["parameters"].to_string();
                assert!(asks.contains("\"limit\"") && asks.contains("\"cursor\""), "{at}: {asks}");
            }
            assert!(operation["security"].is_array(), "{at}");
        }
    }
    // What is described is what is served: no route is unknown.
    for (method, pattern) in routes(&description) {
        if !pattern.ends_with("stream") {
            let (status, text) = daemon.request(&daemon.token, &method, &filled(&pattern, absent), "", "").unwrap();
            let problem: Value = if status < 400 { Value::Null } else { serde_json::from_str(&text).unwrap() };
            let unknown = [json!("request.not_found"), json!("request.method_not_allowed")].contains(&problem["code"]);
            assert!(!unknown, "{method} {pattern}: {problem}");
        }
    }
    assert!(daemon.stop().success());
}

fn collect<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| collect(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_alert_rules_name_metrics_that_there_are() {
    let house = House::new();
    let daemon = house.start();
    let page = daemon.numbers();
    assert!(page.lines().any(|line| line == "chancery_journal_writable 1.0"), "{page}");
    let rules = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbooks/alerts.yml")).unwrap();
    let mut named = 0;
    for word in
        rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("chancery_"))
    {
        let family = ["_total", "_bucket"].iter().find_map(|ending| word.strip_suffix(ending)).unwrap_or(word);
        let described = page.lines().any(|line| line.starts_with(&format!("# HELP {family} ")));
        assert!(described, "there is no metric {family}");
        named += 1;
    }
    assert!(named > 10, "{named}");
    assert!(daemon.stop().success());
}

#[test]
fn pages_of_records_are_read_a_few_at_a_time_however_many_ask() {
    const CLIENTS: usize = 64;
    let house = House::new();
    let daemon = house.start();
    let session = daemon.create().unwrap();
    (0..12).for_each(|_| drop(daemon.start_run_in(&session, &"w".repeat(400_000))));
    let threads = || std::fs::read_dir(format!("/proc/{}/task", daemon.child.id())).unwrap().count();
    let before = threads();
    let most = std::thread::scope(|scope| {
        let ask = || daemon.request(&daemon.token, "GET", "/v1/journal/records", "", "").unwrap();
        let asked: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
        let mut most = 0;
        while asked.iter().any(|client| !client.is_finished()) {
            most = most.max(threads());
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // Some are told that too many answers wait; all are answered.
        let answers: Vec<u16> = asked.into_iter().map(|client| client.join().unwrap().0).collect();
        assert!(answers.iter().all(|status| [200, 503].contains(status)) && answers.contains(&200), "{answers:?}");
        most
    });
    assert!(most < before + CLIENTS / 2, "{most} threads, {before} before");
    assert!(daemon.stop().success());
}
