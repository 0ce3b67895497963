//! Owns what the schema allows for each type of key. Text patterns are those of the readers in `value/`, as far as a pattern can say it.

use serde_json::{Value, json};

use super::super::kind::{Kind, When};
use super::super::value::capability;
use super::types::reference;

/// The schema of a type.
pub(super) fn schema(kind: Kind) -> Value {
    let variable = || reference("variable");
    let any = |ways: &[Value]| json!({ "anyOf": ways });
    let words = |choices: &[(&'static str, When)]| json!({ "enum": choices.iter().map(|(word, _)| *word).collect::<Vec<_>>() });
    let whole = |min: i64, max: i64| match max {
        i64::MAX => json!({ "type": "integer", "minimum": min }),
        _ => json!({ "type": "integer", "minimum": min, "maximum": max }),
    };
    let pattern = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let list = |items: Value| any(&[json!({ "type": "array", "items": items }), variable()]);
    match kind {
        Kind::Bool => any(&[json!({ "type": "boolean" }), variable()]),
        Kind::Int(min, max) => any(&[whole(min, max), variable()]),
        Kind::Float(min, max) => any(&[json!({ "type": "number", "minimum": min, "maximum": max }), variable()]),
        Kind::Text | Kind::Path => json!({ "type": "string" }),
        Kind::Name => any(&[reference("name"), variable()]),
        Kind::Duration { zero: true } => reference("duration"),
        Kind::Duration { zero: false } => reference("duration-above-zero"),
        Kind::Size(least) => any(&[json!({ "type": "integer", "minimum": least }), reference("size"), variable()]),
        Kind::Signal { empty: false } => reference("signal"),
        Kind::Signal { empty: true } => any(&[reference("signal"), json!({ "const": "" })]),
        Kind::RealTime => reference("real-time-signal"),
        Kind::Choice(choices) => any(&[words(choices), variable()]),
        Kind::Workers => {
            any(&[whole(0, i64::from(u32::MAX)), pattern("^\\s*([0-9]+|auto\\s*(\\*\\s*[0-9.eE+-]+)?)\\s*$"), variable()])
        }
        Kind::AtOnce => any(&[whole(1, i64::from(u32::MAX)), json!({ "const": "auto" }), variable()]),
        Kind::Argv { empty: true } => {
            json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
        }
        Kind::Argv { empty: false } => {
            any(&[pattern("\\S"), json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 })])
        }
        Kind::Strings => list(json!({ "type": "string" })),
        Kind::Ints(min, max) => list(whole(min, max)),
        Kind::Choices(choices) => list(any(&[words(choices), variable()])),
        Kind::Steps => list(reference("step")),
        Kind::Ready => any(&[pattern("^(auto|exec|accepting|notify|delay:.+|fd:[0-9]+|(tcp|http|command):.+)$"), variable()]),
        Kind::Share => reference("share"),
        Kind::Rate => reference("rate"),
        Kind::Mode => reference("mode"),
        Kind::Output(other) => any(&[json!({ "enum": ["inherit", "null", "capture", other] }), pattern("^file:.+$"), variable()]),
        Kind::Listen => any(&[reference("address"), json!({ "type": "array", "items": reference("address") })]),
        Kind::Address => any(&[reference("address")]),
        Kind::Env => json!({ "anyOf": [{ "type": ["string", "integer"] }, { "const": false }] }),
        Kind::Secret => any(&[pattern("^file:.+$"), variable()]),
        Kind::User => any(&[reference("account"), json!({ "const": "" })]),
        Kind::Users => list(reference("account")),
        Kind::Capabilities => {
            let names = capability::NAMES.join("|");
            let spelled = format!("^\\s*((cap_)?({names})|(CAP_)?({}))\\s*$", names.to_ascii_uppercase());
            list(any(&[json!({ "enum": capability::NAMES.as_slice() }), pattern(&spelled), variable()]))
        }
        Kind::Limit => reference("limit"),
        Kind::Clock => reference("clock"),
        Kind::Schedule => list(reference("scheduled")),
    }
}
