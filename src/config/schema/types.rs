//! Owns the named types of the schema: values that many keys share.

use serde_json::{Map, Value, json};

/// A use of a named type.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/definitions/{name}") })
}

/// One span of a duration, as humantime reads it.
const SPAN: &str = "[0-9]+(\\.[0-9]+)? *(nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|min|m\
                    |hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w|months|month|M|years|year|yrs|yr|y)";
/// A size, as `value/scalar.rs` reads it.
const SIZE: &str = "([0-9]+\\.?[0-9]*|\\.[0-9]+) *([Bb]|[KkMmGgTt]([Ii]?[Bb])?)?";
/// A signal by name or number.
const SIGNAL: &str = "([Ss][Ii][Gg])?([A-Za-z][A-Za-z0-9]*([+-][0-9]+)?|[0-9]+)";
/// A number of workers or a percentage.
const SHARE: &str = "[0-9]+ *%?";
/// `HH:MM`.
const CLOCK: &str = "([01][0-9]|2[0-3]):[0-5][0-9]";

fn text(pattern: &str, about: &str) -> Value {
    json!({ "type": "string", "pattern": format!("^{pattern}$"), "description": about })
}

fn either(about: &str, ways: &[Value]) -> Value {
    json!({ "description": about, "anyOf": ways })
}

/// All of them.
pub(super) fn definitions() -> Map<String, Value> {
    let variable = || reference("variable");
    let duration = format!("\\s*([0-9]+|{SPAN}( *{SPAN})*)\\s*");
    let mut above_zero = text(&duration, "A duration above zero.");
    above_zero["not"] = json!({ "pattern": "^ *(0+(\\.0+)? *[A-Za-zµ]* *)+$" });
    let one_limit = format!("\\s*(unlimited|infinity|max|{SIZE})\\s*");
    let day = "\\s*(mon|tue|wed|thu|fri|sat|sun|daily)\\s*";
    let all = [
        (
            "variable",
            json!({
                "type": "string", "pattern": "\\$\\{",
                "description": "A value from the master's environment: ${VAR} or ${VAR:-default}.",
            }),
        ),
        (
            "name",
            json!({
                "type": "string", "maxLength": 32, "pattern": "^[a-z][a-z0-9]*(-[a-z0-9]+)*$", "not": { "const": "all" },
                "description": "A name: a-z, 0-9 and single -, starting with a letter, at most 32 characters.",
            }),
        ),
        (
            "duration",
            either(
                "A time such as \"30s\", \"1m 30s\" or \"500ms\"; a bare number is seconds.",
                &[json!({ "type": "integer", "minimum": 0 }), text(&duration, "A duration."), variable()],
            ),
        ),
        (
            "duration-above-zero",
            either(
                "A time above zero such as \"30s\", \"1m 30s\" or \"500ms\"; a bare number is seconds.",
                &[json!({ "type": "integer", "minimum": 1 }), above_zero, variable()],
            ),
        ),
        (
            "size",
            text(&format!("\\s*{SIZE}\\s*"), "A size such as \"16K\", \"512M\" or \"4G\"; K, M, G and T are powers of 1024."),
        ),
        (
            "signal",
            either(
                "A signal by name or number: \"TERM\", \"RTMIN+3\", 15.",
                &[
                    json!({ "type": "integer", "minimum": 1, "maximum": 64 }),
                    text(&format!("\\s*{SIGNAL}\\s*"), "A signal."),
                    variable(),
                ],
            ),
        ),
        (
            "real-time-signal",
            either(
                "A real-time signal, \"RTMIN\" to \"RTMIN+30\"; \"\" is none.",
                &[
                    json!({ "type": "integer", "minimum": 34, "maximum": 64 }),
                    text(
                        "(\\s*([Ss][Ii][Gg])?([Rr][Tt][Mm][Ii][Nn](\\+[0-9]+)?|[Rr][Tt][Mm][Aa][Xx](-[0-9]+)?|0*(3[4-9]|[45][0-9]|6[0-4]))\\s*)?",
                        "A signal.",
                    ),
                    variable(),
                ],
            ),
        ),
        ("step", text(&format!("\\s*({SIGNAL}|{SPAN}( *{SPAN})*)\\s*|.*\\$\\{{.*"), "A signal, or the wait after it.")),
        (
            "share",
            either(
                "A number of workers, or a percentage such as \"25%\".",
                &[
                    json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
                    text(&format!("\\s*{SHARE}\\s*"), "A number or a percentage."),
                    variable(),
                ],
            ),
        ),
        (
            "rate",
            either(
                "A share per time such as \"100%/1s\" or \"4/10s\".",
                &[text(&format!("\\s*{SHARE}\\s*/{duration}"), "A share per duration."), variable()],
            ),
        ),
        (
            "mode",
            either(
                "Octal permission bits in quotes, such as \"0600\".",
                &[text("\\s*(0o)?0*[0-7]{1,4}\\s*", "Octal digits."), variable()],
            ),
        ),
        (
            "address",
            either(
                "An address: \"tcp://0.0.0.0:8000\", \"127.0.0.1:8000\", \"[::1]:8000\", \":8000\" (all interfaces), \
                 \"tcp6://[::]:8000\" (IPv6 only) or \"unix:/path\".",
                &[
                    text("(tcp://|tcp6://|udp://)?(localhost|[0-9.]+|\\[[^\\]]+\\])?:[0-9]+", "An IP address and a port."),
                    text("unix:.+", "A Unix socket."),
                    text("inherit:.+", "A socket from systemd."),
                    variable(),
                ],
            ),
        ),
        (
            "account",
            either(
                "A user or group, by name or number.",
                &[
                    json!({ "type": "integer", "minimum": 0, "maximum": 4_294_967_294_u32 }),
                    text("[^:/-][^:/]*", "A name or a number."),
                    variable(),
                ],
            ),
        ),
        (
            "limit",
            either(
                "A number, a size such as \"1G\", \"unlimited\", or a soft and a hard limit, \"SOFT:HARD\".",
                &[
                    json!({ "type": "integer", "minimum": 0 }),
                    text(&format!("{one_limit}(:{one_limit})?"), "A limit."),
                    variable(),
                ],
            ),
        ),
        ("clock", either("A time of day, \"HH:MM\"; \"\" is never.", &[text(&format!("({CLOCK})?"), "HH:MM."), variable()])),
        (
            "scheduled",
            json!({
                "type": "object", "description": "Least and greatest number of workers in a part of the day.",
                "properties": {
                    "from": text(CLOCK, "First minute, HH:MM."),
                    "to": text(CLOCK, "Last minute, HH:MM."),
                    "days": text(&format!("{day}([,-]{day})*"), "Days: \"mon-fri\", \"sat,sun\", \"daily\"."),
                    "min": { "type": "integer", "minimum": 0, "description": "Least number of workers." },
                    "max": { "type": "integer", "minimum": 0, "description": "Greatest number of workers." },
                },
                "required": ["from", "to"], "additionalProperties": false,
            }),
        ),
    ];
    all.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}
