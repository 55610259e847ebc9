//! The OpenAPI 3.1 document, made from the table of endpoints and the types that are answered.

use super::answer::Media;
use super::endpoint::{ENDPOINTS, Endpoint, REFUSAL};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// What an answer looks like.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// A document of a type.
    Json(fn(&mut SchemaGenerator) -> Schema),
    /// A text.
    Text,
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json(_) => "Json",
            Self::Text => "Text",
        })
    }
}

impl Shape {
    /// A document of this type.
    pub(crate) const fn of<T: JsonSchema>() -> Self {
        Self::Json(SchemaGenerator::subschema_for::<T>)
    }

    fn schema(self, generator: &mut SchemaGenerator) -> Value {
        match self {
            Self::Json(schema) => schema(generator).to_value(),
            Self::Text => json!({ "type": "string" }),
        }
    }
}

/// The document.
pub fn openapi() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let paths: Map<String, Value> =
        ENDPOINTS.iter().map(|endpoint| (endpoint.path.to_owned(), path(endpoint, &mut generator))).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Lifeboat",
            "summary": "Objectives against what is, jobs, events, recovery points; only for reading.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "The token of serve.token in the plan." },
            },
        },
    })
}

fn path(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": endpoint.parameters.iter().map(|parameter| parameter.described()).collect::<Vec<_>>(),
        "responses": responses(endpoint, generator),
    });
    // Said also where it is none: a document without it says nothing.
    operation["security"] = if endpoint.needs_token { json!([{ "token": [] }]) } else { json!([]) };
    json!({ "get": operation })
}

/// By status, everything that may come with it.
fn responses(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let mut by_status: BTreeMap<u16, BTreeMap<&'static str, Vec<Value>>> = BTreeMap::new();
    let mut add = |status: u16, media: Media, schema: Value| {
        let schemas = by_status.entry(status).or_default().entry(media.word()).or_default();
        if !schemas.contains(&schema) {
            schemas.push(schema);
        }
    };
    for (status, media, shape) in endpoint.answers {
        add(*status, *media, shape.schema(generator));
    }
    if endpoint.streams {
        add(200, Media::Events, Shape::Text.schema(generator));
    }
    for status in endpoint.refusals() {
        add(status, Media::Json, REFUSAL.schema(generator));
    }
    by_status.into_iter().map(|(status, media)| (status.to_string(), response(status, media))).collect()
}

fn response(status: u16, media: BTreeMap<&'static str, Vec<Value>>) -> Value {
    let content: Map<String, Value> = media
        .into_iter()
        .map(|(media, mut schemas)| {
            let schema = if schemas.len() == 1 { schemas.remove(0) } else { json!({ "anyOf": schemas }) };
            (media.to_owned(), json!({ "schema": schema }))
        })
        .collect();
    let mut response = json!({ "description": described(status), "content": content });
    if status == 401 {
        response["headers"] =
            json!({ "WWW-Authenticate": { "required": true, "schema": { "type": "string" } } });
    }
    response
}

const fn described(status: u16) -> &'static str {
    match status {
        200 => "What was asked for.",
        400 => "A parameter is unknown, given twice or out of its bounds.",
        401 => "The token is not shown, or is another one.",
        404 => "There is no such thing.",
        500 => "Something failed inside: the service's log says what.",
        _ => "Not now: what is asked for is not there, away, or no token is set.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` below a value.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    found.push(reference.clone());
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = openapi();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn what_needs_a_token_says_so_and_how_it_is_refused() {
        for endpoint in ENDPOINTS {
            let operation = &openapi()["paths"][endpoint.path]["get"];
            assert_eq!(operation["security"] != json!([]), endpoint.needs_token, "{}", endpoint.path);
            assert_eq!(
                operation["responses"].get("401").is_some(),
                endpoint.needs_token,
                "{}",
                endpoint.path
            );
            assert!(operation["responses"]["200"].is_object());
        }
    }
}
