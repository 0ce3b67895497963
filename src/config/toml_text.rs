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
    for error in &errors {
        let span = error.span().unwrap_or(text.body.len()..text.body.len());
        diags.push(Diagnostic::error(Some(place(span)), format!("not valid TOML: {}", error.message())));
    }
    if !errors.is_empty() {
        return None;
    }
    let root = place(0..0);
    Some(Node { key: root.clone(), place: root, raw: table_of(table.get_ref(), &place) })
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
        let text = Arc::new(Text { name: "t.toml".to_owned(), body: body.to_owned() });
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
        let errors = read("a = \nb = 1\nc = [1,,2]\nb = 2\n").expect_err("invalid");
        assert!(errors.len() >= 3, "{errors}");
    }

    #[test]
    fn numbers_too_large_are_named_as_such() {
        assert_eq!(value("99999999999999999999", &Place::BUILT_IN), Ok(Raw::Odd("a number beyond 64 bits")));
        assert_eq!(value("2020-01-01", &Place::BUILT_IN), Ok(Raw::Odd("a date or time")));
        assert!(value("[1", &Place::BUILT_IN).is_err());
    }
}
