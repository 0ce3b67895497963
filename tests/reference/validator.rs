//! Owns a small validator of JSON Schema, for the words of draft 7 that our schemas use. A word that it does not know is an error of the
//! schema: nothing is skipped unseen.

use std::cell::RefCell;
use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::Value;

/// Words that allow everything.
const REMARKS: [&str; 9] = ["$schema", "$id", "title", "description", "default", "examples", "definitions", "x-unit", "x-change"];

/// What is wrong with a value, each with the place in it; nothing: it is valid.
pub(crate) fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    check(schema, schema, value, "", &mut errors);
    errors
}

/// True when the value is valid.
pub(crate) fn valid(schema: &Value, value: &Value) -> bool {
    errors(schema, value).is_empty()
}

fn holds(root: &Value, schema: &Value, value: &Value) -> bool {
    let mut errors = Vec::new();
    check(root, schema, value, "", &mut errors);
    errors.is_empty()
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, errors: &mut Vec<String>) {
    let words = match schema {
        Value::Bool(true) => return,
        Value::Bool(false) => return errors.push(format!("{at}: nothing is allowed here")),
        Value::Object(words) => words,
        other => panic!("{other} is no schema"),
    };
    if let Some(target) = words.get("$ref") {
        assert_eq!(words.len(), 1, "draft 7 ignores what stands beside a $ref: {schema}");
        let path = target.as_str().unwrap().strip_prefix('#').expect("a reference into the schema");
        return check(root, root.pointer(path).unwrap_or_else(|| panic!("{path} leads nowhere")), value, at, errors);
    }
    for (word, rule) in words {
        let list = || rule.as_array().unwrap();
        let right = match word.as_str() {
            word if REMARKS.contains(&word) => true,
            "type" => match rule {
                Value::Array(types) => types.iter().any(|kind| is_of(kind.as_str().unwrap(), value)),
                kind => is_of(kind.as_str().unwrap(), value),
            },
            "const" => rule == value,
            "enum" => list().contains(value),
            "minimum" => value.as_f64().is_none_or(|n| n >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|n| n <= rule.as_f64().unwrap()),
            "pattern" => value.as_str().is_none_or(|text| fits(rule.as_str().unwrap(), text)),
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 >= rule.as_u64().unwrap()),
            "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 <= rule.as_u64().unwrap()),
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
            "required" => value.as_object().is_none_or(|map| list().iter().all(|name| map.contains_key(name.as_str().unwrap()))),
            "not" => !holds(root, rule, value),
            "anyOf" => list().iter().any(|way| holds(root, way, value)),
            "oneOf" => list().iter().filter(|way| holds(root, way, value)).count() == 1,
            "allOf" => {
                list().iter().for_each(|part| check(root, part, value, at, errors));
                true
            }
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                items.for_each(|(n, item)| check(root, rule, item, &format!("{at}/{n}"), errors));
                true
            }
            "properties" | "additionalProperties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    let own = words.get("properties").and_then(|known| known.get(name));
                    match (word.as_str(), own) {
                        ("properties", Some(own)) => check(root, own, inner, &format!("{at}/{name}"), errors),
                        ("additionalProperties", None) => check(root, rule, inner, &format!("{at}/{name}"), errors),
                        _ => {}
                    }
                }
                true
            }
            "propertyNames" => {
                value.as_object().is_none_or(|map| map.keys().all(|name| holds(root, rule, &Value::from(name.as_str()))))
            }
            other => panic!("the validator does not know {other:?}"),
        };
        if !right {
            errors.push(format!("{at}: {word}: {value} does not fit {rule}"));
        }
    }
}

/// Patterns are made once: there are few of them, and many values.
fn fits(pattern: &str, text: &str) -> bool {
    thread_local! {
        static MADE: RefCell<BTreeMap<String, Regex>> = const { RefCell::new(BTreeMap::new()) };
    }
    MADE.with_borrow_mut(|made| made.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).unwrap()).is_match(text))
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
        other => panic!("{other:?} is no type"),
    }
}

#[test]
fn the_validator_refuses_what_a_schema_forbids() {
    let schema = serde_json::json!({
        "definitions": { "n": { "type": "integer", "minimum": 1, "maximum": 3 } },
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": {
            "a": { "$ref": "#/definitions/n" },
            "b": { "anyOf": [{ "const": "x" }, { "enum": [true] }], "not": { "type": "null" } },
            "c": { "type": "array", "minItems": 1, "items": { "type": "string", "pattern": "^a+$", "minLength": 2, "maxLength": 3 } },
            "d": { "propertyNames": { "pattern": "^x" }, "additionalProperties": { "type": ["boolean", "string"] } },
            "e": { "oneOf": [{ "minimum": 1 }, { "maximum": 3 }] },
        },
    });
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for good in [r#"{"a":1}"#, r#"{"a":3.0,"b":"x","c":["aa","aaa"],"d":{"x1":true},"e":4}"#, r#"{"a":2,"b":true,"d":{}}"#] {
        assert_eq!(errors(&schema, &json(good)), Vec::<String>::new(), "{good}");
    }
    for bad in [
        "[]",
        "{}",
        r#"{"a":0}"#,
        r#"{"a":4}"#,
        r#"{"a":1.5}"#,
        r#"{"a":"1"}"#,
        r#"{"a":1,"z":1}"#,
        r#"{"a":1,"b":"y"}"#,
        r#"{"a":1,"b":null}"#,
        r#"{"a":1,"c":[]}"#,
        r#"{"a":1,"c":["a"]}"#,
        r#"{"a":1,"c":["aaaa"]}"#,
        r#"{"a":1,"c":["bb"]}"#,
        r#"{"a":1,"d":{"y":true}}"#,
        r#"{"a":1,"d":{"x":1}}"#,
        r#"{"a":1,"e":2}"#,
    ] {
        assert!(!valid(&schema, &json(bad)), "{bad}");
    }
}
