//! One good body for each kind of event, as JSON in the order of its keys. The sample record lines under
//! `state-schema/samples/` are made from them.

/// A kind, the stream that it stands on, and a body.
pub(super) struct Sample {
    /// The kind.
    pub(super) kind: &'static str,
    /// The stream.
    pub(super) stream: &'static str,
    /// The body.
    pub(super) body: &'static str,
}

const RUN: &str = "run/run_01HF7YAT00000000000000R0N1";
const MODEL_CALL: &str = "model_call/mcall_01HF7YAT0000000000000CA115";
const SESSION: &str = "session/session_01HF7YAT00000000000000SE55";

const fn sample(kind: &'static str, stream: &'static str, body: &'static str) -> Sample {
    Sample { kind, stream, body }
}

/// All samples, in the order of the list of kinds.
pub(super) const SAMPLES: &[Sample] = &[
    sample(
        "context.set",
        "daemon",
        r#"{"boot_id":"boot_01HF7YAT00000000000000B001","wall_ms":1700000000000,"boot_ms":5000,"build":"0.1.0+source","config_revision":0,"policy_sha256":"a3f1b4c2d5e6978800112233445566778899aabbccddeeff0011223344556677"}"#,
    ),
    sample(
        "daemon.started",
        "daemon",
        r#"{"boot_id":"boot_01HF7YAT00000000000000B001","version":"0.1.0","clean":true,"down_ms":60000}"#,
    ),
    sample("daemon.stopped", "daemon", r#"{"boot_id":"boot_01HF7YAT00000000000000B001"}"#),
    sample(
        "time.untrusted",
        "daemon",
        r#"{"wall_ms":1700000000000,"boot_ms":5000,"drift_ms":-7200000,"at_start":false}"#,
    ),
    sample("time.trusted", "daemon", r#"{"wall_ms":1700000600000,"by_operator":true}"#),
    sample(
        "journal.created",
        "journal",
        r#"{"root_id":"root_01HF7YAT000000000000000R00","epoch":"epoch_01HF7YAT000000000000000E00","key_id":"1f2e3d4c"}"#,
    ),
    sample(
        "journal.tail_quarantined",
        "journal",
        r#"{"segment":"00000000000000000000.jsonl","offset":4096,"bytes":512,"sha256":"a3f1b4c2d5e6978800112233445566778899aabbccddeeff0011223344556677","file":"00000000000000000000-4096-a3f1b4c2"}"#,
    ),
    sample("journal.acked_rewritten", "journal", r#"{"slot":1}"#),
    sample(
        "journal.key_changed",
        "journal",
        r#"{"old_key_id":"1f2e3d4c","new_key_id":"5b6a7988","new_public_key":"gTl3DqsKubgQ2FJx1dBTs9lR6Rl2fLqFYkFnN5p5sIA="}"#,
    ),
    sample(
        "journal.snapshot_taken",
        "journal",
        r#"{"seq":100000,"sha256":"a3f1b4c2d5e6978800112233445566778899aabbccddeeff0011223344556677","version":1,"digests":{"runs":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"}}"#,
    ),
    sample(
        "journal.repaired",
        "journal",
        r#"{"epoch":"epoch_01ARZ3NDEKTSV4RRFFQ69G5FAV","lost_from_seq":12,"lost_to_seq":40,"files":[{"segment":"00000000000000000000.jsonl","offset":4096,"bytes":512,"sha256":"a3f1b4c2d5e6978800112233445566778899aabbccddeeff0011223344556677","file":"00000000000000000000-000000004096-a3f1b4c2d5e69788.lost"}]}"#,
    ),
    sample("index.rebuilt", "journal", r#"{"cause":"absent","records":1000}"#),
    sample(
        "access_log.closed",
        "control_plane",
        r#"{"file":"audit.1.jsonl","sha256":"a3f1b4c2d5e6978800112233445566778899aabbccddeeff0011223344556677","lines":1200}"#,
    ),
    sample("control_plane.token_changed", "control_plane", r#"{"role":"read_only","fp":"0011223344556677"}"#),
    sample("runtime.permission_mode_set", "runtime", r#"{"revision":1,"mode":"accept-edits"}"#),
    sample(
        "runtime.permission_rules_set",
        "runtime",
        r#"{"revision":2,"scope":"user","rules":[{"tool":"bash","behavior":"ask"}]}"#,
    ),
    sample("runtime.debug_level_set", "runtime", r#"{"revision":3,"level":"redacted"}"#),
    sample(
        "runtime.rolled_back",
        "runtime",
        r#"{"revision":4,"to_revision":2,"user_rules":[{"tool":"bash","behavior":"ask"}],"debug_level":"off"}"#,
    ),
    sample("vault.keyed", "vault", r#"{"check":"000102030405060708090a0b0c0d0e0f"}"#),
    sample(
        "secret.activated",
        "vault",
        r#"{"ref":"openai.prod","provider":"openai","version":2,"fp":"0011223344556677","last4":"wxyz","leases_revoked":["lease_01HF7YAT00000000000000EASE"]}"#,
    ),
    sample("secret.revoked", "vault", r#"{"ref":"openai.prod","version":2}"#),
    sample(
        "secret.deleted",
        "vault",
        r#"{"ref":"openai.prod","version":2,"leases_revoked":["lease_01HF7YAT00000000000000EASE"]}"#,
    ),
    sample("credential.subject_revoked", "vault", r#"{"subject":"route/openai"}"#),
    sample("credential.subject_reinstated", "vault", r#"{"subject":"route/openai"}"#),
    sample("credential.lease_revoked", "vault", r#"{"lease_id":"lease_01HF7YAT00000000000000EASE"}"#),
    sample("budget.set", "ledger", r#"{"budget":"token:admin:day","limit_micros":5000000}"#),
    sample("budget.removed", "ledger", r#"{"budget":"route:claude:total"}"#),
    sample(
        "model_call.requested",
        MODEL_CALL,
        r#"{"boot_id":"boot_01HF7YAT00000000000000B001","route":"claude","driver":"anthropic","model":"sonnet","dialect":"messages","stream":true,"body_sha256":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","reservation":{"micros":15300,"input_tokens":100,"output_tokens":1000,"price":{"table":"2026-01-01","input":3000000,"cached_input":300000,"cache_write":3750000,"output":15000000},"principal":"admin","session_id":"session_01HF7YAT00000000000000SE55"},"credential":{"ref":"anthropic.prod","version":2,"fp":"0011223344556677","lease_id":"lease_01HF7YAT00000000000000EASE"}}"#,
    ),
    sample(
        "model_call.settled",
        MODEL_CALL,
        r#"{"outcome":"answered","cost":{"micros":1350,"basis":"reported"},"tokens":{"input":100,"cached_input":50,"output":70},"status":200,"duration_ms":800}"#,
    ),
    sample(
        "session.created",
        SESSION,
        r#"{"title":"Höhe × Breite","permission_mode":"plan","permission_rules":[{"tool":"write_file","behavior":"deny"}],"metadata":{"ticket":"42"},"reply_targets":[{"kind":"slack","name":"ops","address":"C0123"}]}"#,
    ),
    sample("session.interrupted", SESSION, r#"{"note":"wrong folder"}"#),
    sample("session.ended", SESSION, r"{}"),
    sample(
        "run.queued",
        RUN,
        r#"{"session_id":"session_01HF7YAT00000000000000SE55","input":[{"kind":"text","text":"Read \"a.txt\",\nplease."}],"max_turns":50,"reply_targets":[{"kind":"http","name":"hook"}]}"#,
    ),
    sample(
        "run.started",
        RUN,
        r#"{"boot_id":"boot_01HF7YAT00000000000000B001","route":"rehearsal","driver":"rehearsal","model":"rehearsal","chosen_by":"default","rehearsal":true,"permission_mode":"default","runtime_revision":4}"#,
    ),
    sample("run.stop_requested", RUN, r#"{"how":"cancel","note":"not needed"}"#),
    sample(
        "run.completed",
        RUN,
        r#"{"output":{"sealed":{"key":"subject-1","nonce":"AAAAAAAAAAAAAAAA","ct":"AAECAwQFBgc="}},"turns":2}"#,
    ),
    sample(
        "run.failed",
        RUN,
        r#"{"code":"provider.unavailable","detail":"The provider closed the connection.","turns":1}"#,
    ),
    sample("run.interrupted", RUN, r#"{"cause":"restart"}"#),
    sample("run.cancelled", RUN, r"{}"),
    sample(
        "turn.requested",
        RUN,
        r#"{"turn":1,"attempt":1,"route":"rehearsal","model":"rehearsal","request_sha256":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"}"#,
    ),
    sample(
        "turn.answered",
        RUN,
        r#"{"turn":1,"text":"I look.","tool_calls":[{"call_id":"call_01HF7YAT00000000000000CA11","provider_id":"c1","tool":"bash","input":"{\"command\":\"ls\"}"}],"stop":"tool_use","usage":{"input_tokens":12,"output_tokens":5,"source":"reported"},"duration_ms":420}"#,
    ),
    sample(
        "turn.failed",
        RUN,
        r#"{"turn":1,"code":"provider.unavailable","detail":"No answer in time.","duration_ms":60000}"#,
    ),
    sample("turn.reservation_settled", RUN, r#"{"turn":2,"attempt":1,"cost":{"micros":15300,"basis":"crash"}}"#),
    sample(
        "permission.decided",
        RUN,
        r#"{"call_id":"call_01HF7YAT00000000000000CA11","tool":"bash","mode":"default","base":"ask","decision":"deny","rule":{"scope":"session","tool":"bash","behavior":"deny"}}"#,
    ),
    sample(
        "approval.requested",
        RUN,
        r#"{"approval_id":"approval_01HF7YAT00000000000000APP1","call_id":"call_01HF7YAT00000000000000CA11","tool":"bash","call":"{\"tool\":\"bash\"}","call_hash":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","card":"bash: ls","card_hash":"a3f1b4c2d5e6978800112233445566778899aabbccddeeff0011223344556677","expires_at_ms":1700086400000}"#,
    ),
    sample(
        "approval.decided",
        RUN,
        r#"{"approval_id":"approval_01HF7YAT00000000000000APP1","decision":"allow","call_hash":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","card_hash":"a3f1b4c2d5e6978800112233445566778899aabbccddeeff0011223344556677","note":"fine"}"#,
    ),
    sample("approval.expired", RUN, r#"{"approval_id":"approval_01HF7YAT00000000000000APP1"}"#),
    sample("approval.withdrawn", RUN, r#"{"approval_id":"approval_01HF7YAT00000000000000APP1","cause":"run_ended"}"#),
    sample(
        "call.dispatched",
        RUN,
        r#"{"call_id":"call_01HF7YAT00000000000000CA11","tool":"bash","call_hash":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","approval_id":"approval_01HF7YAT00000000000000APP1","sandbox":"tool"}"#,
    ),
    sample(
        "call.finished",
        RUN,
        r#"{"call_id":"call_01HF7YAT00000000000000CA11","ok":true,"output":{"blob":{"sha256":"a3f1b4c2d5e6978800112233445566778899aabbccddeeff0011223344556677","bytes":70000}},"truncated":false,"exit_code":0,"duration_ms":12}"#,
    ),
    sample(
        "call.refused",
        RUN,
        r#"{"call_id":"call_01HF7YAT00000000000000CA11","code":"permission.denied","detail":"A rule denies it."}"#,
    ),
    sample("call.outcome_unknown", RUN, r#"{"call_id":"call_01HF7YAT00000000000000CA11"}"#),
    sample(
        "question.asked",
        RUN,
        r#"{"question_id":"question_01HF7YAT0000000000000000Q1","call_id":"call_01HF7YAT00000000000000CA11","header":"Colour","question":"Which one?","options":[{"id":"a","label":"Red","description":"warm"}],"multi_select":false,"freeform":true,"expires_at_ms":1700086400000}"#,
    ),
    sample(
        "question.answered",
        RUN,
        r#"{"question_id":"question_01HF7YAT0000000000000000Q1","selected":["a"],"freeform":"dark"}"#,
    ),
    sample("question.declined", RUN, r#"{"question_id":"question_01HF7YAT0000000000000000Q1","note":"ask later"}"#),
    sample("question.expired", RUN, r#"{"question_id":"question_01HF7YAT0000000000000000Q1"}"#),
    sample("question.withdrawn", RUN, r#"{"question_id":"question_01HF7YAT0000000000000000Q1","cause":"run_ended"}"#),
    sample(
        "task.started",
        RUN,
        r#"{"task_id":"task_01HF7YAT00000000000000TASK","session_id":"session_01HF7YAT00000000000000SE55","call_id":"call_01HF7YAT00000000000000CA11","command":"sleep 60"}"#,
    ),
    sample("task.stop_requested", RUN, r#"{"task_id":"task_01HF7YAT00000000000000TASK"}"#),
    sample(
        "task.finished",
        RUN,
        r#"{"task_id":"task_01HF7YAT00000000000000TASK","status":"completed","terminal_reason":"exited","exit_code":0,"output_bytes":10,"rotations":0}"#,
    ),
    sample("runtime.model_set", "runtime", r#"{"revision":5,"choice":{"route":"openai","model":"gpt-5.4"}}"#),
    sample(
        "runtime.system_prompt_set",
        "runtime",
        r#"{"revision":6,"prompt":{"mode":"append","text":"Answer in German."}}"#,
    ),
    sample(
        "runtime.tool_limits_set",
        "runtime",
        r#"{"revision":7,"limits":{"command_ms":30000,"result_bytes":16384}}"#,
    ),
    sample("session.route_policy_set", SESSION, r#"{"choice":{"route":"openai"}}"#),
    sample(
        "routes.loaded",
        "daemon",
        r#"{"sha256":"a3f1b4c2d5e6978800112233445566778899aabbccddeeff0011223344556677","default_route":"openai","routes":["openai","rehearsal"]}"#,
    ),
    sample("runtime.erasure_set", "runtime", r#"{"revision":8,"on":true}"#),
    sample("session.erased", SESSION, r#"{"key":"key_01HF7YAT00000000000000KEY5","note":"she asked for it"}"#),
];
