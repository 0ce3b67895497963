//! Owns reading JSON text into a tree with places. serde_json judges the syntax; the walk here only finds where things are.

use std::ops::Range;
use std::sync::Arc;

use super::diagnostics::{Diagnostic, Diagnostics};
use super::node::{At, Layer, Node, Place, Raw, Text};
use super::table::Table;

/// Reads a whole document. `None`: it has errors, which are in `diags` now.
pub(super) fn document(text: &Arc<Text>, layer: Layer, diags: &mut Diagnostics) -> Option<Node> {
    let place = |span| Place { layer, at: At::Text(Arc::clone(text), span) };
    // Once through serde_json: after this the walk meets valid JSON of bounded depth only.
    if let Err(error) = serde_json::from_str::<serde_json::Value>(&text.body) {
        let start = offset_of(&text.body, error.line(), error.column());
        let message = error.to_string();
        let bare = message.rsplit_once(" at line ").map_or(message.as_str(), |(bare, _)| bare);
        diags.push(Diagnostic::error(Some(place(start..start + 1)), format!("not valid JSON: {bare}")));
        return None;
    }
    let before = diags.len();
    let mut walk = Walk { text: &text.body, at: 0, place: &place, diags };
    walk.space();
    let start = walk.at;
    let raw = walk.value().unwrap_or(Raw::Odd("no value"));
    if !matches!(raw, Raw::Table(_)) {
        diags.push(Diagnostic::error(Some(place(start..start + 1)), "a config is a JSON object {...}".to_owned()));
    }
    (diags.len() == before).then(|| Node { key: place(0..0), place: place(0..0), raw })
}

/// The byte offset of a line and a column (serde_json counts bytes, from 1).
fn offset_of(body: &str, line: usize, column: usize) -> usize {
    let start: usize = body.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(body.len())
}

struct Walk<'a> {
    text: &'a str,
    at: usize,
    place: &'a dyn Fn(Range<usize>) -> Place,
    diags: &'a mut Diagnostics,
}

impl Walk<'_> {
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
    }

    /// Steps over `byte` when it is next.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    fn value(&mut self) -> Option<Raw> {
        match self.peek() {
            b'{' => self.object(),
            b'[' => self.array(),
            b'"' => self.string().map(Raw::Str),
            _ => {
                let start = self.at;
                while !matches!(self.peek(), b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n' | 0) {
                    self.at += 1;
                }
                Some(match &self.text[start..self.at] {
                    "true" => Raw::Bool(true),
                    "false" => Raw::Bool(false),
                    "null" => Raw::Odd("null"),
                    number if number.contains(['.', 'e', 'E']) => number.parse().map_or(Raw::Odd("no number"), Raw::Float),
                    number => number.parse().map_or(Raw::Odd("a number beyond 64 bits"), Raw::Int),
                })
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        let start = self.at;
        self.at += 1;
        while self.at < self.text.len() && self.peek() != b'"' {
            self.at += if self.peek() == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        serde_json::from_str(self.text.get(start..self.at)?).ok()
    }

    fn array(&mut self) -> Option<Raw> {
        let mut items = Vec::new();
        self.at += 1;
        self.space();
        while self.peek() != b']' && self.at < self.text.len() {
            let start = self.at;
            let raw = self.value()?;
            let place = (self.place)(start..self.at);
            items.push(Node { key: place.clone(), place, raw });
            self.separator();
        }
        self.at += 1;
        Some(Raw::List(items))
    }

    fn object(&mut self) -> Option<Raw> {
        let mut entries = Table::default();
        self.at += 1;
        self.space();
        while self.peek() != b'}' && self.at < self.text.len() {
            let start = self.at;
            let name = self.string()?;
            let key = (self.place)(start..self.at);
            self.space();
            self.take(b':');
            self.space();
            let start = self.at;
            let raw = self.value()?;
            let node = Node { key, place: (self.place)(start..self.at), raw };
            if entries.named(&name).is_some() {
                self.diags.push(Diagnostic::error(Some(node.key.clone()), format!("`{name}` is here twice")));
            }
            entries.push(name, node);
            self.separator();
        }
        self.at += 1;
        Some(Raw::Table(entries))
    }

    fn separator(&mut self) {
        self.space();
        if self.take(b',') {
            self.space();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Node, Diagnostics> {
        let mut diags = Diagnostics::default();
        let text = Arc::new(Text::new("t.json", body));
        document(&text, Layer::File, &mut diags).ok_or(diags)
    }

    #[test]
    fn places_and_order_are_found() {
        let root = read("{\n  \"pool\": { \"b\" : {\"workers\" :\t4, \"x\": [1.5, \"a\\\"é\", null, true]},\"a\":{}}\n}\n")
            .expect("valid");
        let names: Vec<_> = root.get("pool").expect("pool").entries().iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
        let workers = root.find(&["pool", "b", "workers"]).expect("workers");
        assert_eq!((&workers.raw, workers.place.words().as_str()), (&Raw::Int(4), "t.json:2:32"));
        let Raw::List(items) = &root.find(&["pool", "b", "x"]).expect("x").raw else { panic!("a list") };
        let raws: Vec<_> = items.iter().map(|n| n.raw.clone()).collect();
        assert_eq!(raws, [Raw::Float(1.5), Raw::Str("a\"é".to_owned()), Raw::Odd("null"), Raw::Bool(true)]);
    }

    #[test]
    fn errors_say_where() {
        let bad = |body: &str| read(body).expect_err("invalid").to_string();
        assert!(bad("{\n \"a\": }").contains("t.json:2:7"), "{}", bad("{\n \"a\": }"));
        assert!(bad("[]").contains("a config is a JSON object"));
        assert!(bad("{\"a\":1,\"a\":2}").contains("`a` is here twice"));
        assert!(bad("").contains("not valid JSON"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(body in r#"[\[\]{}",:\\0-9a-z \n.é-]{0,80}"#) {
            let _ = read(&body);
        }
    }
}
