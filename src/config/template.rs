//! Owns the two kinds of interpolation. `${VAR}` is resolved at load, from the master's environment. `{pool}`, `{slot}`,
//! `{generation}`, `{fd}`, `{fd:NAME}`, `{cpus}`, `{runtime}` and `{port}` are filled in at each spawn. Anything else in braces, and any other
//! `$`, stays as it is: shell text and JSON pass through. What was filled in is never looked at again.

use std::path::Path;

/// The words without an argument, as they stand in braces.
const PLAIN: [&str; 7] = ["pool", "slot", "generation", "fd", "cpus", "runtime", "port"];

/// What is filled in at one spawn.
#[derive(Clone, Copy, Debug)]
pub struct Vars<'a> {
    /// `{pool}`: the pool's name.
    pub pool: &'a str,
    /// `{slot}`: the worker's slot.
    pub slot: u32,
    /// `{generation}`: which process of the slot it is.
    pub generation: u32,
    /// `{fd}` (the first) and `{fd:NAME}`: listeners' names and descriptor numbers, in the order of the numbers.
    pub fds: &'a [(&'a str, i32)],
    /// `{cpus}`: usable CPUs.
    pub cpus: u32,
    /// `{runtime}`: the pool's own runtime directory.
    pub runtime: &'a Path,
    /// `{port}`: the worker's own port, where it has one.
    pub port: Option<u16>,
}

/// One piece of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    /// Text to keep.
    Text(&'a str),
    /// A known word, without its braces.
    Word(&'a str),
}

/// Fills in a template at a spawn. A word that cannot be filled in (`{fd}` without listeners, which the checks refuse) stays.
pub fn expand(template: &str, vars: &Vars<'_>) -> String {
    let mut out = String::with_capacity(template.len() + 16);
    pieces(template, |piece| match piece {
        Piece::Text(text) => out.push_str(text),
        Piece::Word("pool") => out.push_str(vars.pool),
        Piece::Word("slot") => out.push_str(&vars.slot.to_string()),
        Piece::Word("generation") => out.push_str(&vars.generation.to_string()),
        Piece::Word("cpus") => out.push_str(&vars.cpus.to_string()),
        Piece::Word("runtime") => out.push_str(&vars.runtime.to_string_lossy()),
        Piece::Word("port") => match vars.port {
            Some(port) => out.push_str(&port.to_string()),
            None => out.push_str("{port}"),
        },
        Piece::Word(word) => {
            let fd = match word.strip_prefix("fd:") {
                Some(name) => vars.fds.iter().find(|(listener, _)| *listener == name),
                None => vars.fds.first(),
            };
            match fd {
                Some((_, number)) => out.push_str(&number.to_string()),
                None => out.extend(["{", word, "}"]),
            }
        }
    });
    out
}

/// The words that a template asks for, escaped ones left out: `fd`, `fd:http`, `slot`, ...
pub fn asked(template: &str) -> Vec<&str> {
    let mut out = Vec::new();
    pieces(template, |piece| {
        if let Piece::Word(word) = piece {
            out.push(word);
        }
    });
    out
}

fn pieces<'a>(template: &'a str, mut each: impl FnMut(Piece<'a>)) {
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let (before, brace) = rest.split_at(at);
        if let Some((word, after)) = brace.strip_prefix("{{").and_then(|inner| known(inner, "}}")) {
            // "{{word}}" is the word in single braces, to be kept.
            each(Piece::Text(before));
            each(Piece::Text(&brace[1..word.len() + 3]));
            rest = after;
        } else if let Some((word, after)) = known(&brace[1..], "}") {
            each(Piece::Text(before));
            each(Piece::Word(word));
            rest = after;
        } else {
            each(Piece::Text(&rest[..=at]));
            rest = &brace[1..];
        }
    }
    each(Piece::Text(rest));
}

/// A known word at the start of `text`, closed by `end`; and what follows.
fn known<'a>(text: &'a str, end: &str) -> Option<(&'a str, &'a str)> {
    // Words are of few characters: nothing is searched far away for each brace.
    let length = text.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':')).count();
    let (word, rest) = text.split_at(length);
    let after = rest.strip_prefix(end)?;
    let listener = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    (PLAIN.contains(&word) || word.strip_prefix("fd:").is_some_and(listener)).then_some((word, after))
}

/// Writes text so that [`expand`] gives it back as it is.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        let brace = &rest[at..];
        match known(&brace[1..], "}") {
            Some((word, after)) => {
                out.extend(["{{", word, "}}"]);
                rest = after;
            }
            None => {
                out.push('{');
                rest = &brace[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// What a resolved text is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It is final.
    Value,
    /// It is a template for [`expand`]: what comes from the environment is escaped.
    Template,
}

/// Resolves `${VAR}` and `${VAR:-default}`; an empty variable takes the default, as in a shell. `$${VAR}` becomes `${VAR}`. `Err`
/// names the variables that are not set and have no default.
pub(super) fn resolve<'e>(text: &str, lookup: &dyn Fn(&str) -> Option<&'e str>, target: Use) -> Result<String, Vec<String>> {
    let (mut out, mut missing) = (String::with_capacity(text.len()), Vec::new());
    let kept = |text: &str| if target == Use::Template { escape(text) } else { text.to_owned() };
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, dollar) = rest.split_at(at);
        out.push_str(before);
        if let Some((_, length)) = dollar.strip_prefix('$').and_then(reference) {
            out.push_str(&kept(&dollar[1..=length]));
            rest = &dollar[1 + length..];
        } else if let Some((reference, length)) = reference(dollar) {
            match (lookup(reference.name).filter(|v| !v.is_empty() || reference.default.is_none()), reference.default) {
                (Some(value), _) => out.push_str(&kept(value)),
                (None, Some(default)) => out.push_str(&kept(default)),
                (None, None) => missing.push(reference.name.to_owned()),
            }
            rest = &dollar[length..];
        } else {
            out.push('$');
            rest = &dollar[1..];
        }
    }
    out.push_str(rest);
    if missing.is_empty() { Ok(out) } else { Err(missing) }
}

/// Writes text so that [`resolve`] and [`expand`] give it back with only its `{word}`s filled in.
pub(super) fn escape_variables(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let dollar = &rest[at..];
        let length = reference(dollar).map_or(1, |(_, length)| length);
        if length > 1 {
            out.push('$');
        }
        out.push_str(&dollar[..length]);
        rest = &dollar[length..];
    }
    out.push_str(rest);
    out
}

/// The names of the variables that [`resolve`] would look up.
pub(super) fn variables(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            rest = &rest[rest.find('$')?..];
            match reference(rest) {
                Some((reference, length)) => {
                    rest = &rest[length..];
                    return Some(reference.name);
                }
                None => rest = &rest[1..],
            }
        }
    })
}

/// True for names that people give to variables that hold secrets.
pub(super) fn sounds_secret(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    ["SECRET", "PASSW", "TOKEN", "CREDENTIAL", "PRIVATE", "API_KEY", "APIKEY"].iter().any(|word| upper.contains(word))
}

/// True when the text holds something that [`resolve`] would change.
pub(super) fn has_reference(text: &str) -> bool {
    text.match_indices('$').any(|(at, _)| reference(&text[at..]).is_some())
}

struct Reference<'a> {
    name: &'a str,
    default: Option<&'a str>,
}

/// `${NAME}` or `${NAME:-default}` at the start of `text`, and its length.
fn reference(text: &str) -> Option<(Reference<'_>, usize)> {
    let inner = text.strip_prefix("${")?;
    // First what is cheap: a name, and what may follow it.
    let length = inner.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    if !inner[length..].starts_with('}') && !inner[length..].starts_with(":-") {
        return None;
    }
    let (inner, _) = inner.split_once('}')?;
    let (name, default) = inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
    let first = name.bytes().next()?;
    let ok = !first.is_ascii_digit() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    ok.then_some((Reference { name, default }, inner.len() + 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> String {
        let fds = [("http", 3), ("admin", 4)];
        let vars = Vars {
            pool: "web",
            slot: 2,
            generation: 7,
            fds: &fds,
            cpus: 8,
            runtime: Path::new("/run/p/pool/web"),
            port: Some(9002),
        };
        expand(template, &vars)
    }

    #[test]
    fn known_words_are_filled_in_and_nothing_else() {
        for (template, want) in [
            ("--fd {fd}", "--fd 3"),
            ("{fd:admin},{fd:http}", "4,3"),
            ("{pool}-{slot}.{generation}", "web-2.7"),
            ("unix:{runtime}/w{slot}.sock -c{cpus}", "unix:/run/p/pool/web/w2.sock -c8"),
            ("{{pool}}", "{pool}"),
            ("--port={port}", "--port=9002"),
            ("{{fd:http}} {{other}} {{.ID}}", "{fd:http} {{other}} {{.ID}}"),
            ("{\"a\": {}}", "{\"a\": {}}"),
            ("{\"slot\": {slot}}", "{\"slot\": 2}"),
            ("{{{slot}}}", "{{slot}}"),
            ("awk '{print $1}' ${x} {", "awk '{print $1}' ${x} {"),
            ("{fd:}", "{fd:}"),
            ("{fd:nope}", "{fd:nope}"),
            ("{ slot }", "{ slot }"),
            ("é{slot}é", "é2é"),
        ] {
            assert_eq!(filled(template), want, "{template:?}");
        }
    }

    #[test]
    fn the_words_asked_for_are_listed() {
        assert_eq!(asked("{fd:http} {{fd}} {slot} {x} {fd}"), ["fd:http", "slot", "fd"]);
    }

    fn resolved(text: &str, target: Use) -> Result<String, Vec<String>> {
        let lookup = |name: &str| match name {
            "PORT" => Some("8000"),
            "EMPTY" => Some(""),
            "TRICKY" => Some("{slot} ${PORT}"),
            _ => None,
        };
        resolve(text, &lookup, target)
    }

    #[test]
    fn variables_are_resolved_once() {
        for (text, want) in [
            ("p=${PORT}", Ok("p=8000")),
            ("${NOPE:-x y}", Ok("x y")),
            ("${EMPTY:-x}", Ok("x")),
            ("${EMPTY}", Ok("")),
            ("${NOPE:-}", Ok("")),
            ("$PORT $$ $(x) ${} ${1} ${A%b} $", Ok("$PORT $$ $(x) ${} ${1} ${A%b} $")),
            ("$${PORT} $$${PORT}", Ok("${PORT} $${PORT}")),
            ("${TRICKY}", Ok("{slot} ${PORT}")),
            ("${NOPE} ${ALSO}", Err(vec!["NOPE".to_owned(), "ALSO".to_owned()])),
        ] {
            assert_eq!(resolved(text, Use::Value), want.map(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn what_comes_from_the_environment_is_no_template() {
        let template = resolved("{slot} ${TRICKY} $${slot}", Use::Template).expect("set");
        assert_eq!(filled(&template), "2 {slot} ${PORT} ${slot}");
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(text in r#"[a${}:\-fdslotpé ]{0,40}"#) {
            let _ = (filled(&text), resolved(&text, Use::Template), asked(&text), escape_variables(&text));
        }

        #[test]
        fn text_without_braces_is_kept(text in "[^{}]{0,40}") {
            proptest::prop_assert_eq!(filled(&text), text);
        }

        #[test]
        fn escaped_variables_come_back(text in r#"(\$\{A\}|\$\{B:-x\}|\$|a| |\{|\}|\$\$)"#, more in r#"[a \}]{0,4}"#) {
            let text = format!("{text}{more}");
            proptest::prop_assert_eq!(resolved(&escape_variables(&text), Use::Value), Ok(text));
        }
    }
}
