//! Owns reading TOML text into a tree with places. Reports every syntax error of the text, not only the first.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::{Diagnostic, Diagnostics};
use super::node::{At, Layer, Node, Place, Raw, Text};

/// Reads a whole document. `None`: it has syntax errors, which are in `diags` now.
pub(super) fn document(text: &Arc<Text>, layer: Layer, diags: &mut Diagnostics) -> Option<Node> {
    let (table, errors) = DeTable::parse_recoverable(&text.body);
    let place = |span| Place { layer, at: At::Text(Arc::clone(text), span) };
    let span = |error: &toml::de::Error| error.span().unwrap_or(text.body.len()..text.body.len());
    let mut sorted: Vec<&toml::de::Error> = errors.iter().collect();
    sorted.sort_by_key(|error| span(error).start);
    let (mut last, mut yaml) = (None, false);
    for error in sorted {
        if diags.full() {
            break;
        }
        let span = span(error);
        let line = text.line(span.start);
        let more_yaml = looks_like_yaml(line.0) && std::mem::replace(&mut yaml, true);
        // One slip makes the parser stumble on through the rest of its line.
        if more_yaml || last.replace(line.1) == Some(line.1) {
            continue;
        }
        let found = text.body.get(span.clone()).filter(|_| !text.may_hold_secrets(span.start)).unwrap_or("...");
        let (message, help) = words(error.message(), found, line.0);
        let error = Diagnostic::error(Some(place(span)), format!("not valid TOML: {message}"));
        diags.push(if help.is_empty() { error } else { error.help(help) });
    }
    if !errors.is_empty() {
        return None;
    }
    let root = place(0..0);
    Some(Node { key: root.clone(), place: root, raw: table_of(table.get_ref(), &place) })
}

/// `web:`, `command: server` and `- item` are never meant as TOML.
fn looks_like_yaml(line: &str) -> bool {
    let bare = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let line = line.trim();
    line.starts_with("- ")
        || line.split_once(':').is_some_and(|(key, rest)| bare(key) && (rest.is_empty() || rest.starts_with(' ')))
}

/// The parser's message in words for people, and what to do.
fn words(message: &str, found: &str, line: &str) -> (String, String) {
    let (bare, line) = (found.trim(), line.trim());
    let quoted = || if bare.contains('"') { format!("'{bare}'") } else { format!("\"{bare}\"") };
    if looks_like_yaml(line) {
        let help = "a config is TOML: [pool.web] on a line, command = \"...\" below it";
        return ("this looks like YAML".to_owned(), help.to_owned());
    }
    let (said, help) = match message {
        "string values must be quoted, expected literal string" if bare.is_empty() => {
            ("a value is missing".to_owned(), "write it after the =".to_owned())
        }
        "string values must be quoted, expected literal string" => {
            ("this is no value".to_owned(), format!("a string needs quotes: {}", quoted()))
        }
        "duplicate key" if line.starts_with('[') => {
            (format!("`{bare}` has a table already"), "write all of its keys below one header".to_owned())
        }
        "duplicate key" => (format!("`{bare}` is here twice"), "remove one of the two".to_owned()),
        "invalid basic string, expected `\"`" => ("a \" is not closed".to_owned(), String::new()),
        "invalid literal string, expected `'`" => ("a ' is not closed".to_owned(), String::new()),
        "key with no value, expected `=`" => ("a key without a value".to_owned(), "write KEY = VALUE, or [TABLE]".to_owned()),
        "missing comma between array elements, expected `,`" => {
            ("the list is not closed before this, or a comma is missing".to_owned(), "close it with ]".to_owned())
        }
        other if other.starts_with("unexpected leading zero") => {
            let digits: String =
                line.rsplit('=').next().unwrap_or_default().trim().chars().take_while(char::is_ascii_digit).collect();
            let help = match digits.is_empty() {
                true => "write it without the zero".to_owned(),
                false => format!("write it without the zero; permission bits are octal and in quotes: \"{digits:0>4}\""),
            };
            ("a number has no leading zero".to_owned(), help)
        }
        other => (other.to_owned(), String::new()),
    };
    (said, help)
}

/// Reads one value, as it stands to the right of an equals sign. All parts of it get the same place.
pub(super) fn value(text: &str, place: &Place) -> Result<Raw, String> {
    let value = DeValue::parse(text).map_err(|e| e.message().to_owned())?;
    Ok(raw_of(value.get_ref(), &|_| place.clone()))
}

fn raw_of(value: &DeValue<'_>, place: &dyn Fn(std::ops::Range<usize>) -> Place) -> Raw {
    match value {
        DeValue::String(s) => Raw::Str(s.to_string()),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).map_or(Raw::Odd("a number beyond 64 bits"), Raw::Int),
        DeValue::Float(f) => f.as_str().parse().map_or(Raw::Odd("no number"), Raw::Float),
        DeValue::Boolean(b) => Raw::Bool(*b),
        DeValue::Datetime(_) => Raw::Odd("a date or time"),
        DeValue::Array(items) => Raw::List(
            items
                .iter()
                .map(|item| {
                    let at = place(item.span());
                    Node { key: at.clone(), place: at, raw: raw_of(item.get_ref(), place) }
                })
                .collect(),
        ),
        DeValue::Table(table) => table_of(table, place),
    }
}

/// The parser sorts its tables; the places of the keys give the written order back.
fn table_of(table: &DeTable<'_>, place: &dyn Fn(std::ops::Range<usize>) -> Place) -> Raw {
    let mut entries: Vec<(&Spanned<_>, &Spanned<DeValue<'_>>)> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    Raw::Table(
        entries
            .into_iter()
            .map(|(key, value)| {
                let node = Node { key: place(key.span()), place: place(value.span()), raw: raw_of(value.get_ref(), place) };
                (key.get_ref().to_string(), node)
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Node, Diagnostics> {
        let mut diags = Diagnostics::default();
        let text = Arc::new(Text::new("t.toml", body));
        document(&text, Layer::File, &mut diags).ok_or(diags)
    }

    #[test]
    fn order_and_places_are_kept() {
        let root = read("[pool.zeta]\nworkers = 1\n[pool.alpha]\nworkers = 0x10\n").expect("valid");
        let pools: Vec<_> = root.get("pool").expect("pool").entries().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(pools, ["zeta", "alpha"]);
        let workers = root.find(&["pool", "alpha", "workers"]).expect("workers");
        assert_eq!((&workers.raw, workers.place.words().as_str()), (&Raw::Int(16), "t.toml:4:11"));
        assert_eq!(workers.key.words(), "t.toml:4:1");
    }

    #[test]
    fn all_syntax_errors_are_reported_at_once() {
        let errors = read("a = \nb = 1\nc = [1,,2] 3 4 = =\nb = 2\n").expect_err("invalid");
        let lines: Vec<_> = errors.errors().map(|e| e.json()["line"].as_u64()).collect();
        assert_eq!(lines, [Some(1), Some(3), Some(4)], "one for each line: {errors}");
    }

    #[test]
    fn numbers_too_large_are_named_as_such() {
        assert_eq!(value("99999999999999999999", &Place::BUILT_IN), Ok(Raw::Odd("a number beyond 64 bits")));
        assert_eq!(value("2020-01-01", &Place::BUILT_IN), Ok(Raw::Odd("a date or time")));
        assert!(value("[1", &Place::BUILT_IN).is_err());
    }
}
