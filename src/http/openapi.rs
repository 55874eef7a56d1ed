//! `openapi.json`, made from the table of routes and the types it names.

use bytes::Bytes;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::problem::ProblemBody;
use super::routes::RouteFacts;
use crate::services::authority::Need;

/// The whole description, as JSON text.
pub fn document(routes: &[RouteFacts]) -> Bytes {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let problem = schemas.subschema_for::<ProblemBody<'static>>();
    let mut paths = Map::new();
    for route in routes {
        let operation = operation(route, &mut schemas);
        let path = paths.entry(route.pattern).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation;
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": { "title": "Chancery", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "responses": { "Problem": {
                "description": "A refusal",
                "content": { "application/problem+json": { "schema": problem } },
            } },
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
        },
    });
    document.to_string().into()
}

fn operation(route: &RouteFacts, schemas: &mut SchemaGenerator) -> Value {
    let (status, gives) = route.gives;
    let mut answer = json!({ "description": "Done" });
    if let Some(schema) = gives {
        answer["content"] = json!({ route.media: { "schema": schema(schemas) } });
    }
    let mut operation = json!({
        "summary": route.summary,
        "responses": { status.to_string(): answer, "default": { "$ref": "#/components/responses/Problem" } },
        "parameters": parameters(route),
        "security": [],
    });
    if let Some(action) = route.action {
        operation["security"] = json!([{ "bearer": [] }]);
        operation["x-action"] = json!(action.name());
        operation["x-needs-admin"] = json!(action.need() != Need::Read);
    }
    if let Some(schema) = route.takes {
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": schema(schemas) } } });
    }
    operation
}

fn parameters(route: &RouteFacts) -> Vec<Value> {
    let names = route.pattern.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = |name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } });
    let in_query = |(name, kind): &(&str, &str)| json!({ "name": name, "in": "query", "required": false, "schema": { "type": kind } });
    let mut parameters: Vec<Value> = names.map(in_path).chain(route.asks.iter().map(in_query)).collect();
    if route.action.is_some_and(|action| action.need() == Need::Write) {
        let schema = json!({ "type": "string", "maxLength": crate::domain::limits::IDEMPOTENCY_KEY_BYTES });
        parameters.push(json!({ "name": "Idempotency-Key", "in": "header", "required": false, "schema": schema }));
    }
    if route.media == super::sse::MEDIA {
        let schema = json!({ "type": "string", "maxLength": super::limits::CURSOR_CHARACTERS });
        parameters.push(json!({ "name": "Last-Event-ID", "in": "header", "required": false, "schema": schema }));
    }
    parameters
}
