//! Schemas of everything that is not an event: lines, files of the state root, receipts, and what the operator writes.

use serde_json::{Value, json};

use super::Files;
use crate::config::limits::{MODEL_BYTES, ROUTE_ID_BYTES};
use crate::config::routes::{Api, Driver};
use crate::journal::cold::Damage;
use crate::journal::keys::StateRoot;
use crate::journal::line;
use crate::journal::proof::{Consistency, Receipt};
use crate::journal::repair::Plan;
use crate::services::daemon_file::DaemonFile;
use crate::services::status::Status;

/// Takes "or null" out of a schema: in the journal's formats an absent value is an absent key.
pub(super) fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = map.get_mut("anyOf") {
                choices.retain(|choice| choice != &json!({ "type": "null" }));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    map.remove("anyOf");
                    map.extend(only);
                }
            }
            map.remove("default");
            map.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Adds the schemas of the formats; `problem` comes from the door.
pub(super) fn add(files: &mut Files, problem: &Value) {
    let strict = [
        ("record", line::record_schema()),
        ("seal", line::seal_schema()),
        ("segment-header", line::header_schema()),
        ("receipt", schemars::schema_for!(Receipt)),
        ("consistency-proof", schemars::schema_for!(Consistency)),
        ("state-root", schemars::schema_for!(StateRoot)),
        ("daemon", schemars::schema_for!(DaemonFile)),
        ("damage", schemars::schema_for!(Damage)),
        ("repair", schemars::schema_for!(Plan)),
    ];
    for (name, schema) in strict {
        let mut schema = schema.to_value();
        without_null(&mut schema);
        super::put_json(files, &format!("state-schema/formats/{name}.json"), &schema);
    }
    super::put_json(files, "state-schema/formats/status.json", &schemars::schema_for!(Status).to_value());
    super::put_json(files, "state-schema/formats/problem.json", problem);
    super::put_json(files, "state-schema/formats/routes-file.json", &routes_file());
}

/// The routes file as a schema over the JSON that its TOML stands for. Rules between fields are in the descriptions.
fn routes_file() -> Value {
    let id = format!("^[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{}}}$", ROUTE_ID_BYTES - 1);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "routes.toml",
        "type": "object",
        "additionalProperties": false,
        "required": ["version", "routes"],
        "properties": {
            "version": { "const": 1 },
            "default_route": { "type": "string", "description": "Required where there is more than one route." },
            "routes": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": { "pattern": id },
                "additionalProperties": route(),
            },
        },
    })
}

fn route() -> Value {
    let model = json!({ "type": "string", "minLength": 1, "maxLength": MODEL_BYTES });
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["driver", "default_model"],
        "properties": {
            "driver": { "enum": Driver::ALL.map(Driver::name) },
            "default_model": model,
            "base_url": { "type": "string", "description": "The provider's own where there is none; refused for rehearsal." },
            "api": { "enum": Api::ALL.map(Api::name), "description": "For openai only; chat where there is none." },
            "model_support": { "enum": ["any", "listed"] },
            "models": { "type": "array", "items": model, "description": "Belongs to model_support = \"listed\"." },
            "script": { "type": "string", "description": "A rehearsal's script; beside the routes file." },
            "max_output_tokens": { "type": "integer", "minimum": 1 },
            "timeout_ms": { "type": "integer", "minimum": 1 },
        },
    })
}
