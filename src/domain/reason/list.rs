//! The closed list itself: one entry a code. Grows by one entry per code; nothing is ever renamed or reused.
//!
//! Entry: `Variant = "code", http STATUS | exit CODE, [retry] [effect_possible], seed "…"?, sentence, next step`.
//! The flags default to: no retry without a change, and surely no effect.

use super::{Edge, Reason, ReasonFacts};

/// Builds the enum, the list of all codes and the table of facts from one set of entries.
macro_rules! reasons {
    ($($variant:ident = $code:literal, $kind:ident $number:literal, [$($flag:ident)*] $(, seed $seed:literal)?, $title:literal, $next:literal;)*) => {
        impl Reason {
            $(
                #[doc = concat!("`", $code, "`: ", $title)]
                #[allow(non_upper_case_globals, reason = "a code reads as a variant where it is used")]
                pub const $variant: Reason = Reason(&ReasonFacts {
                    code: $code,
                    edge: reasons!(@edge $kind $number),
                    retry: reasons!(@has retry $($flag)*),
                    effect_possible: reasons!(@has effect_possible $($flag)*),
                    seed_code: reasons!(@seed $($seed)?),
                    title: $title,
                    next: $next,
                });
            )*
            /// Every reason, ordered by code.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),*];
        }
    };
    (@edge http $n:literal) => { Edge::Http($n) };
    (@edge exit $n:literal) => { Edge::Exit($n) };
    (@has retry retry $($rest:ident)*) => { true };
    (@has effect_possible effect_possible $($rest:ident)*) => { true };
    (@has $wanted:ident $other:ident $($rest:ident)*) => { reasons!(@has $wanted $($rest)*) };
    (@has $wanted:ident) => { false };
    (@seed) => { None };
    (@seed $s:literal) => { Some($s) };
}

reasons! {
    ApprovalAlreadyDecided = "approval.already_decided", http 409, [],
        "The approval was decided before.",
        "Read the approval to see who decided and how.";
    ApprovalCallChanged = "approval.call_changed", http 409, [],
        "The hashes do not match the call that waits for approval.",
        "Read the approval again and decide on what it shows now.";
    ApprovalExpired = "approval.expired", http 409, [],
        "The approval was not decided in time.",
        "Start the run again if the call is still wanted.";
    ApprovalNotFound = "approval.not_found", http 404, [],
        "There is no such approval.",
        "List what waits with `chancery approvals list`.";
    ApprovalNotPermitted = "approval.not_permitted", http 403, [],
        "The caller may not decide this approval.",
        "Let a person with an admin token decide.";
    ArtifactNotFound = "artifact.not_found", http 404, [],
        "There is no such artifact.",
        "Look at the run's output for the artifacts it made.";
    AuthInvalid = "auth.invalid", http 401, [],
        "The bearer token is not one that is in force.",
        "Run `chancery token show` against the daemon's state root and use that token.";
    AuthInviteRequired = "auth.invite_required", http 403, [],
        "The account has no accepted invitation.",
        "Ask an owner of the organisation for an invitation, then sign in again.";
    AuthMembershipMissing = "auth.membership_missing", http 403, [],
        "The caller is not a member of this organisation.",
        "Ask an owner to add you as a member.";
    AuthMissing = "auth.missing", http 401, [],
        "The request carries no bearer token.",
        "Send `Authorization: Bearer …`; `chancery token show` prints the token for whoever can read the state root.";
    AuthProxyRefused = "auth.proxy_refused", http 403, [],
        "The request came through a proxy while authentication is off.",
        "Start the daemon with `--http-auth-mode bearer` to put a proxy in front of it.";
    AuthRateLimited = "auth.rate_limited", http 429, [retry], seed "auth_rate_limited",
        "Too many failed sign-ins from this source.",
        "Wait for the time in `retry_after_ms`; valid tokens are not limited.";
    AuthReadOnly = "auth.read_only", http 403, [],
        "The token may read but not change anything.",
        "Use the admin token.";
    AuthRoleInsufficient = "auth.role_insufficient", http 403, [],
        "The caller's role does not allow this action.",
        "Ask an owner to raise your role, or let someone with it act.";
    AuthScopeInsufficient = "auth.scope_insufficient", http 403, [],
        "The token's scopes do not cover this action.",
        "Use a token with the scope that `detail` names.";
    AuthTokenExpired = "auth.token_expired", http 401, [],
        "The token's validity has ended.",
        "Create a new token and retry with it.";
    AuthTokenRevoked = "auth.token_revoked", http 401, [],
        "The token was revoked.",
        "Create a new token; the old one never works again.";
    AuthTokensAmbiguous = "auth.tokens_ambiguous", http 401, [],
        "The admin and the read-only token file hold the same token, so no token is accepted.",
        "Write different tokens into the two files; they are read again at once.";
    AuthorizationActionUnknown = "authorization.action_unknown", http 403, [],
        "The action is not in the action table, so nobody may do it.",
        "Report this with the request id; it is a defect.";
    BackupArchiveInvalid = "backup.archive_invalid", exit 1, [],
        "The archive does not verify.",
        "Use another backup; nothing was changed.";
    BackupArchiveUnsafe = "backup.archive_unsafe", exit 1, [],
        "The archive holds an unsafe entry.",
        "Do not use this archive; nothing was changed.";
    BackupTargetNotEmpty = "backup.target_not_empty", exit 1, [],
        "The target of the restore is not empty.",
        "Choose an empty folder.";
    BillingProviderUnavailable = "billing.provider_unavailable", http 503, [retry],
        "The billing provider could not be asked.",
        "Retry later; nothing was charged.";
    BillingSubscriptionInactive = "billing.subscription_inactive", http 402, [], seed "subscription_inactive",
        "The subscription is not active.",
        "Renew the subscription, then retry.";
    BillingSubscriptionLimitExceeded = "billing.subscription_limit_exceeded", http 402, [], seed "subscription_limit_exceeded",
        "The plan's limit is reached.",
        "Raise the plan or remove what is no longer used.";
    BillingSubscriptionRequired = "billing.subscription_required", http 402, [],
        "The action needs a subscription.",
        "Start a subscription for the organisation.";
    BudgetExceeded = "budget.exceeded", http 402, [],
        "The budget does not cover this call.",
        "Run `chancery budget explain` with the id of the request or the run.";
    BudgetModelUnpriced = "budget.model_unpriced", http 402, [],
        "A budget is in force, and the model has no price.",
        "Add the model to a price table and name it with `--price-table-file`, or remove the budget.";
    BudgetNotFound = "budget.not_found", http 404, [],
        "There is no such budget.",
        "List the budgets with `chancery budget list`.";
    BudgetReserved = "budget.reserved", http 429, [retry],
        "What is left of the budget is reserved for calls that have not ended.",
        "Wait for them to end, or run `chancery budget explain` with the id of the request or the run.";
    ByokKeyMissing = "byok.key_missing", http 409, [],
        "The organisation has stored no provider key of its own.",
        "Store a provider key for the organisation, then retry.";
    ByokProviderDisabled = "byok.provider_disabled", http 403, [],
        "The provider is switched off for this organisation.",
        "Ask an operator to enable the provider.";
    ByokUnsupportedProvider = "byok.unsupported_provider", http 422, [],
        "The provider is not one that this daemon knows.",
        "Choose one of the providers listed by `chancery status`.";
    ByokValidationFailed = "byok.validation_failed", http 422, [],
        "The provider did not accept the key.",
        "Check the key at the provider and store it again.";
    ConfigInvalid = "config.invalid", exit 1, [],
        "The configuration has mistakes.",
        "Correct every line that the message names.";
    ConnectorFileBacked = "connector.file_backed", http 409, [],
        "The connector comes from a file and cannot be changed here.",
        "Change the file and restart the daemon.";
    ConnectorInUse = "connector.in_use", http 409, [],
        "The connector is still used.",
        "Remove what `detail` names, then delete it.";
    ConnectorNotFound = "connector.not_found", http 404, [],
        "There is no such connector.",
        "List the connectors with `chancery connectors list`.";
    ConnectorTimestampOutOfRange = "connector.timestamp_out_of_range", http 401, [],
        "The request's time stamp is too far from the daemon's clock.",
        "Set the sender's clock and send again.";
    CorsOriginRateLimited = "cors.origin_rate_limited", http 429, [retry], seed "cors_origin_rate_limited",
        "Too many requests from a refused origin.",
        "Stop the page that sends them, or allow its origin with `--http-cors-allow-origin`.";
    CorsOriginRefused = "cors.origin_refused", http 403, [],
        "The browser origin is not allowed.",
        "Allow the origin with `serve --http-cors-allow-origin`, or serve the page from the same origin.";
    CursorAhead = "cursor.ahead", http 409, [],
        "The cursor lies beyond the newest event.",
        "Check that the client talks to the daemon that gave out the cursor.";
    CursorExpired = "cursor.expired", http 410, [],
        "The events behind the cursor are no longer kept.",
        "Read the object's present state, then follow from `oldest`.";
    CursorMalformed = "cursor.malformed", http 400, [],
        "The cursor is not one that this daemon gave out.",
        "Start again without a cursor, or with the last `id:` received.";
    DeliveryNotDead = "delivery.not_dead", http 409, [],
        "The delivery is neither dead nor unknown.",
        "Wait for its attempts to end.";
    DeliveryNotFound = "delivery.not_found", http 404, [],
        "There is no such delivery.",
        "List the deliveries with `chancery deliveries list`.";
    DesktopManagedOrgRequired = "desktop.managed_org_required", http 403, [],
        "The desktop client needs a managed organisation.",
        "Sign in with an account of a managed organisation.";
    GatewayChannelNotBound = "gateway.channel_not_bound", http 403, [],
        "The channel is not bound to an organisation.",
        "Bind the channel, then send the message again.";
    GatewayIdentityNotAllowed = "gateway.identity_not_allowed", http 403, [],
        "The sender is not bound to a member.",
        "Bind the sender's identity to a member first.";
    GatewaySignatureRequired = "gateway.signature_required", http 401, [],
        "The request carries no valid signature.",
        "Configure the sender with the channel's signing secret.";
    InternalError = "internal.error", http 500, [effect_possible],
        "Something unexpected failed inside the daemon.",
        "Look up the request id in the daemon's log.";
    JournalUnverifiable = "journal.unverifiable", exit 3, [],
        "Something could not be verified.",
        "Read the reason in the output; provide what is missing, such as `--key`.";
    ModelCallNotFound = "model_call.not_found", http 404, [],
        "There is no such model call, or it is too old to be told by itself.",
        "Look at `chancery budget list` for the sums, and at the journal for each call.";
    OutboundDestinationForbidden = "outbound.destination_forbidden", http 422, [],
        "The destination is not a public address.",
        "Allow it with `serve --outbound-allow HOST:PORT` if it is meant.";
    PermissionDenied = "permission.denied", http 403, [],
        "The permission rules deny this call.",
        "Read the run's permission records for the rule that denied it.";
    ProjectApplicationDisabled = "project.application_disabled", http 409, [], seed "application_disabled",
        "The application is disabled.",
        "Enable the application, then retry.";
    ProjectApplicationNotFound = "project.application_not_found", http 404, [], seed "application_not_found",
        "There is no such application in the project.",
        "List the project's applications.";
    ProjectInvalidPublishableKey = "project.invalid_publishable_key", http 400, [], seed "invalid_publishable_key",
        "The publishable key is not one of this daemon's.",
        "Copy the key from the project's page again.";
    ProjectInvalidSecretKey = "project.invalid_secret_key", http 401, [], seed "invalid_secret_key",
        "The secret key is not valid.",
        "Create a new secret key for the project.";
    ProviderRateLimited = "provider.rate_limited", http 429, [retry],
        "The model provider limits the rate.",
        "Wait for the time in `retry_after_ms`, then start the run again.";
    ProviderRejected = "provider.rejected", http 502, [],
        "The model provider refused the request.",
        "Read `detail` for the provider's reason and correct the request or the route.";
    ProviderScriptInvalid = "provider.script_invalid", http 422, [],
        "The rehearsal script does not parse.",
        "Correct the line that `detail` names.";
    ProviderStreamBroken = "provider.stream_broken", http 502, [retry effect_possible],
        "The provider's answer broke off.",
        "Start the run again; the part received is kept as partial.";
    ProviderTls = "provider.tls", http 502, [],
        "The provider's certificate could not be trusted.",
        "Check the route's `base_url` and the machine's certificates.";
    ProviderUnavailable = "provider.unavailable", http 502, [retry],
        "The model provider could not be reached.",
        "Check the route's `base_url` and the network, then start the run again.";
    QuestionAlreadyAnswered = "question.already_answered", http 409, [],
        "The question was answered before.",
        "Read the question to see the answer.";
    QuestionExpired = "question.expired", http 409, [],
        "The question was not answered in time.",
        "Start the run again if the answer still matters.";
    QuestionNotFound = "question.not_found", http 404, [],
        "There is no such question.",
        "List what waits with `chancery questions list`.";
    QuotaGatewayDeliveryLimitExceeded = "quota.gateway_delivery_limit_exceeded", http 429, [retry],
        "The delivery quota of this period is used up.",
        "Wait for the next period or raise the quota.";
    QuotaPromptLimitExceeded = "quota.prompt_limit_exceeded", http 429, [retry],
        "The prompt quota of this period is used up.",
        "Wait for the next period or raise the quota.";
    QuotaWorkerLimitExceeded = "quota.worker_limit_exceeded", http 429, [retry],
        "All workers of the plan are busy.",
        "Wait for a run to end or raise the quota.";
    RateLimited = "rate.limited", http 429, [retry], seed "rate_limited",
        "Too many requests in the window.",
        "Wait for the time in `retry_after_ms`.";
    ReceiptNotFound = "receipt.not_found", http 404, [],
        "There is no such record.",
        "Read `chancery journal head` for the newest sequence number.";
    RequestAlreadyDone = "request.already_done", http 409, [],
        "The same request was already done.",
        "Read its result; it is not done twice.";
    RequestBadJson = "request.bad_json", http 400, [],
        "The body is not valid JSON.",
        "Send one JSON document in UTF-8, without repeated keys.";
    RequestExpectationFailed = "request.expectation_failed", http 417, [],
        "The `Expect` header asks for something unknown.",
        "Leave the header out, or send `100-continue`.";
    RequestHeadersTooLarge = "request.headers_too_large", http 431, [],
        "The request's headers are too large or too many.",
        "Send fewer and shorter headers.";
    RequestHostUnknown = "request.host_unknown", http 421, [],
        "The Host header names no host of this daemon.",
        "Use the daemon's address, or add the name with `serve --http-host`.";
    RequestIdempotencyMismatch = "request.idempotency_mismatch", http 409, [],
        "The idempotency key was used before with another body.",
        "Use a new key for a new request.";
    RequestInProgress = "request.in_progress", http 409, [],
        "The same request is still being worked on.",
        "Wait, then repeat it with the same key.";
    RequestInvalid = "request.invalid", http 422, [],
        "The request has the right shape but breaks a rule.",
        "Read `detail`, correct the value and send it again.";
    RequestMalformed = "request.malformed", http 400, [],
        "The request does not have the documented shape.",
        "Compare it with `GET /v1/openapi.json`; where there is a `pointer`, it names the place.";
    RequestMethodNotAllowed = "request.method_not_allowed", http 405, [],
        "The path does not take this method.",
        "Use one of the methods in the `Allow` header.";
    RequestNotFound = "request.not_found", http 404, [],
        "There is nothing at this path.",
        "Look the path up in `GET /v1/openapi.json`.";
    RequestOverloaded = "request.overloaded", http 503, [retry],
        "The daemon has more work than it can take now.",
        "Wait for the time in `retry_after_ms`, then retry.";
    RequestTimeout = "request.timeout", http 408, [effect_possible],
        "The time for the request ran out.",
        "Look whether the object changed, then retry with the same idempotency key.";
    RequestTooLarge = "request.too_large", http 413, [],
        "The request is larger than the limit.",
        "Send less; `detail` names the limit.";
    RequestUnsupportedMediaType = "request.unsupported_media_type", http 415, [],
        "The body's media type or encoding is not supported.",
        "Send `Content-Type: application/json` without a content encoding.";
    RequestUriTooLong = "request.uri_too_long", http 414, [],
        "The request's address is too long.",
        "Send long values in the body.";
    RouteCredentialMissing = "route.credential_missing", http 409, [],
        "The route's credential is not stored.",
        "Store it with `chancery secrets set`.";
    RouteNotFound = "route.not_found", http 422, [],
        "There is no such route.",
        "List the routes with `chancery status`.";
    RouteNotReady = "route.not_ready", http 503, [retry],
        "The route cannot be used now.",
        "Read `provider_readiness` in `chancery status`.";
    RunNotFound = "run.not_found", http 404, [],
        "There is no such run.",
        "List the runs with `chancery runs list`.";
    RunOutcomeUnknown = "run.outcome_unknown", http 409, [effect_possible],
        "It cannot be known whether the call took effect.",
        "Look at the workspace and decide by hand; the call is never repeated silently.";
    RunStepOutOfOrder = "run.step_out_of_order", http 409, [],
        "The step does not fit where the run stands.",
        "Read the run again; the daemon's own worker does so by itself.";
    RunStopping = "run.stopping", http 409, [],
        "The run was asked to stop.",
        "Wait for its end; start a new run if the work is still wanted.";
    RunTerminal = "run.terminal", http 409, [],
        "The run has already ended.",
        "Start a new run in the session.";
    RunTurnLimit = "run.turn_limit", http 422, [],
        "The run reached its limit of turns.",
        "Start a new run that goes on from here.";
    RuntimeRevisionConflict = "runtime.revision_conflict", http 409, [],
        "The runtime configuration changed in between.",
        "Read the present revision and send the change again.";
    ScheduleNotFound = "schedule.not_found", http 404, [],
        "There is no such schedule.",
        "List the schedules with `chancery schedules list`.";
    SecretAlreadyShown = "secret.already_shown", http 409, [],
        "The secret was shown once and is not shown again.",
        "Rotate it to get a new one.";
    SessionEnded = "session.ended", http 409, [],
        "The session has ended.",
        "Create a new session.";
    SessionNotFound = "session.not_found", http 404, [],
        "There is no such session.",
        "List the sessions with `chancery sessions list`.";
    StateRootInsecurePermissions = "state_root.insecure_permissions", exit 1, [],
        "A secret file can be read or written by others.",
        "Run `chmod 600` on the file that the message names.";
    StateRootJournalCorrupt = "state_root.journal_corrupt", exit 1, [],
        "Acknowledged bytes of the journal were changed.",
        "Run `chancery verify` for the place, then restore a copy that verifies, or run `chancery journal repair`.";
    StateRootJournalRollback = "state_root.journal_rollback", exit 1, [],
        "Acknowledged bytes of the journal are missing.",
        "Run `chancery verify` for the place, then restore a copy that verifies.";
    StateRootLocked = "state_root.locked", exit 1, [],
        "Another daemon holds this state root.",
        "Stop the daemon named in the message, or choose another `--state-root`.";
    StateRootMasterKeyMismatch = "state_root.master_key_mismatch", exit 1, [],
        "The master key does not open this vault.",
        "Provide the master key that the vault was made with.";
    StateRootNested = "state_root.nested", exit 1, [],
        "The state root and the workspace root contain one another.",
        "Choose two separate folders.";
    StateRootNotFound = "state_root.not_found", exit 2, [],
        "There is no state root at this path.",
        "Check `--state-root`, or start a daemon there first.";
    StateRootVersionTooNew = "state_root.version_too_new", exit 1, [],
        "The state root was written by a newer Chancery.",
        "Start it with that version or a later one.";
    StorageAuditUnavailable = "storage.audit_unavailable", http 503, [retry],
        "The audit record could not be made durable.",
        "Run `chancery doctor` and mend the state root.";
    StorageFull = "storage.full", http 507, [retry],
        "The disk has no room for the journal.",
        "Free space on the state root's file system; writing resumes by itself.";
    StorageJournalUnavailable = "storage.journal_unavailable", http 503, [retry effect_possible],
        "The journal cannot be written, so nothing can be acknowledged.",
        "Run `chancery doctor`; mend the disk and restart the daemon.";
    StorageReadOnly = "storage.read_only", http 503, [retry],
        "The state root is on a read-only file system.",
        "Mount it writable; restart the daemon where it does not go on by itself.";
    SupportDiagnosticsRedactionRequired = "support.diagnostics_redaction_required", http 422, [],
        "The diagnostics still hold something that must be redacted.",
        "Run `chancery support check` and send the redacted bundle.";
    TaskNotFound = "task.not_found", http 404, [],
        "There is no such task.",
        "List the tasks with `chancery tasks list`.";
    TaskTerminal = "task.terminal", http 409, [],
        "The task has already ended.",
        "Read its output with `chancery tasks output`.";
    TimeUntrusted = "time.untrusted", http 503, [retry],
        "The machine's clock jumped, so this is not done until it is trusted again.",
        "Set the clock, then run `chancery runtime trust-clock`.";
    ToolFailed = "tool.failed", http 422, [effect_possible],
        "The tool could not do what it was asked.",
        "Read `detail` for the cause.";
    ToolFileChanged = "tool.file_changed", http 409, [],
        "The file changed after the call was prepared, so it was left alone.",
        "Read the file again and repeat the edit on what it holds now.";
    ToolLimitExceeded = "tool.limit_exceeded", http 422, [],
        "The tool passed one of its limits.",
        "Ask for less, or split the work.";
    ToolPathOutsideWorkspace = "tool.path_outside_workspace", http 422, [],
        "The path leaves the workspace.",
        "Use a path below the workspace root.";
    ToolSandboxUnavailable = "tool.sandbox_unavailable", http 422, [],
        "This machine cannot confine commands, so none is run.",
        "Use a kernel with Landlock ABI 3 or later, or start with `--tool-sandbox off` and accept the risk.";
    ToolTimeout = "tool.timeout", http 422, [],
        "The tool ran out of time.",
        "Give it a longer limit or less work.";
    ToolUnknown = "tool.unknown", http 422, [],
        "There is no such tool.",
        "Use one of the tools that were offered.";
    VaultLeaseNotFound = "vault.lease_not_found", http 404, [],
        "There is no such lease, or its call has ended.",
        "List the leases with `chancery runtime auth leases`.";
    VaultLeaseRevoked = "vault.lease_revoked", http 403, [],
        "The lease was revoked.",
        "Ask for a new lease.";
    VaultLeaseUsed = "vault.lease_used", http 403, [],
        "The lease was used before.",
        "Ask for a new lease.";
    VaultLocked = "vault.locked", http 503, [],
        "The vault has no master key.",
        "Start the daemon with CHANCERY_AUTH_STORE_MASTER_KEY_FILE.";
    VaultSlotCorrupt = "vault.slot_corrupt", http 503, [],
        "The stored secret cannot be decrypted.",
        "Store the secret again with `chancery secrets set`.";
    VaultSlotNotFound = "vault.slot_not_found", http 404, [],
        "There is no such secret.",
        "List the secrets with `chancery secrets list`.";
    WorkspaceMissingByokCredential = "workspace.missing_byok_credential", http 422, [], seed "MISSING_BYOK_CREDENTIAL",
        "The model is paid by the organisation's own key, and there is none.",
        "Store the organisation's provider key, then provision again.";
    WorkspaceMissingPlatformProxy = "workspace.missing_platform_proxy", http 422, [],
        "The model is paid by the platform, and its proxy is not configured.",
        "Ask the operator to configure the platform route.";
    WorkspaceModelRequired = "workspace.model_required", http 422, [],
        "The workspace names no model.",
        "Set a model on the workspace.";
    WorkspaceProvisionFailed = "workspace.provision_failed", http 422, [],
        "The workspace could not be provisioned.",
        "Read the workspace's `last_error`, mend the cause, provision again.";
    WorkspaceRuntimeUnsupported = "workspace.runtime_unsupported", http 422, [],
        "The runtime is not supported.",
        "Choose a supported runtime.";
    WorkspaceUnregisteredModelForRuntime = "workspace.unregistered_model_for_runtime", http 422, [],
        "The model is not registered for this runtime.",
        "Choose a registered model or register this one.";
}
