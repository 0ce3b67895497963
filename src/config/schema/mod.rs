//! Owns the JSON Schema (draft 7) of a config, made from the one definition of its keys, for editors and other programs. It refuses
//! nothing that `check` accepts; what can only be judged as a whole (a pool that is not there, a port twice) is left to `check`.

mod kinds;
mod types;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::keys::{self, Key, Kind, When};

/// The keys below a path: one of them may be a value and a table at once.
#[derive(Default)]
struct Branch {
    key: Option<&'static Key>,
    below: BTreeMap<&'static str, Branch>,
}

impl Branch {
    fn insert(&mut self, path: &[&'static str], key: &'static Key) {
        match path {
            [] => self.key = Some(key),
            [first, rest @ ..] => self.below.entry(first).or_default().insert(rest, key),
        }
    }

    fn schema(&self, path: &[&str]) -> Value {
        let table = || self.table(path);
        match (self.key, self.below.is_empty()) {
            (Some(key), true) => described(key, kinds::schema(key.kind)),
            (Some(key), false) => {
                let mut ways = match kinds::schema(key.kind) {
                    Value::Object(mut map) => match map.remove("anyOf") {
                        Some(Value::Array(ways)) => ways,
                        _ => vec![Value::Object(map)],
                    },
                    other => vec![other],
                };
                ways.push(table());
                described(key, json!({ "anyOf": ways }))
            }
            (None, _) => table(),
        }
    }

    fn table(&self, path: &[&str]) -> Value {
        let mut schema = Map::new();
        schema.insert("type".to_owned(), json!("object"));
        if let Some(about) = keys::about_table(path) {
            schema.insert("description".to_owned(), json!(sentence(about)));
        }
        let inner = |name: &str, branch: &Branch| branch.schema(&[path, &[name]].concat());
        match self.below.get("*") {
            Some(any) => {
                schema.insert("additionalProperties".to_owned(), inner("*", any));
                // An option where the listener's name is due would make a listener of that name.
                let options: Vec<&str> = any.below.keys().copied().collect();
                if !options.is_empty() {
                    let names = json!({ "allOf": [types::reference("name"), { "not": { "enum": options } }] });
                    schema.insert("propertyNames".to_owned(), names);
                }
            }
            None => {
                let known: Map<String, Value> =
                    self.below.iter().map(|(name, branch)| ((*name).to_owned(), inner(name, branch))).collect();
                schema.insert("properties".to_owned(), Value::Object(known));
                schema.insert("additionalProperties".to_owned(), json!(false));
            }
        }
        Value::Object(schema)
    }
}

/// Adds what is said about a key.
fn described(key: &Key, schema: Value) -> Value {
    let mut map = match schema {
        Value::Object(map) => map,
        other => Map::from_iter([("allOf".to_owned(), json!([other]))]),
    };
    // Draft 7 ignores everything beside a $ref.
    if let Some(reference) = map.remove("$ref") {
        map.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
    }
    let mut text = sentence(key.about);
    if let Some(unit) = key.unit() {
        // Of durations and sizes the type says it.
        if !matches!(key.kind, Kind::Duration { .. } | Kind::Size(_)) {
            text.push_str(&format!(" Unit: {unit}."));
        }
        map.insert("x-unit".to_owned(), json!(unit));
    }
    text.push_str(&format!(" Allowed: {}.", key.kind.allowed()));
    match (key.when, key.kind.words_to_come().join(", ")) {
        (When::Later, _) => text.push_str(" Not in this version yet: `run` refuses it."),
        (When::Now, words) if !words.is_empty() => text.push_str(&format!(" Not in this version yet: {words}.")),
        (When::Now, _) => {}
    }
    text.push_str(&format!(" Change: {}.", key.class));
    map.insert("x-change".to_owned(), json!(key.class.word()));
    map.insert("description".to_owned(), json!(text));
    if let Some(default) = from_toml(key.default) {
        map.insert("default".to_owned(), default);
    }
    if let Some(example) = from_toml(&key.example()) {
        map.insert("examples".to_owned(), json!([example]));
    }
    Value::Object(map)
}

/// A description as a sentence.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// A value in TOML syntax as JSON.
fn from_toml(text: &str) -> Option<Value> {
    let table: toml::Table = format!("value = {text}").parse().ok()?;
    serde_json::to_value(table.get("value")?).ok()
}

/// The schema of a whole config.
pub fn document() -> Value {
    let (mut root, mut pool) = (Branch::default(), Branch::default());
    for key in keys::all() {
        let path: Vec<&'static str> = key.path.split('.').collect();
        match path[..] {
            ["pool", "*", ref rest @ ..] => pool.insert(rest, key),
            ref path => root.insert(path, key),
        }
    }
    let mut definitions = types::definitions();
    definitions.insert("pool".to_owned(), pool.schema(&["pool", "*"]));
    let pool = || types::reference("pool");
    let named = |about: &str, values: Value| {
        json!({
            "type": "object", "description": sentence(about),
            "propertyNames": types::reference("name"), "additionalProperties": values,
        })
    };
    let mut schema = root.schema(&[]);
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        let defaults = sentence("what all pools have in common, key by key; the same keys as a pool's");
        properties.insert("defaults".to_owned(), json!({ "description": defaults, "allOf": [pool()] }));
        let template = json!({ "allOf": [pool(), { "not": { "required": ["use"] } }] });
        properties.insert("template".to_owned(), named("templates that pools take up by `use`, by name", template));
        properties.insert("pool".to_owned(), named("the pools, by name", pool()));
    }
    if let Some(map) = schema.as_object_mut() {
        map.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        map.insert("title".to_owned(), json!("poolmaster's config, pools.toml"));
        map.insert("definitions".to_owned(), Value::Object(definitions));
    }
    schema
}

/// The same as text, for the file and for `config schema`.
pub fn text() -> String {
    format!("{:#}\n", document())
}
