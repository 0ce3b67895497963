//! Every text of the sources that find mistakes is said in a case: whoever adds a message or a hint adds the input that it is right for.

use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Where the texts are: what finds mistakes in a config and on the host.
const SOURCES: [&str; 3] = ["src/config", "src/cli/check.rs", "src/cli/host"];
/// Of these, what only describes or shows a config.
const SILENT: [&str; 9] = [
    "config/diff.rs",
    "config/keys/index.rs",
    "config/keys/master.rs",
    "config/keys/mod.rs",
    "config/keys/pool.rs",
    "config/keys/samples.rs",
    "config/keys/tables.rs",
    "config/schema/",
    "config/show.rs",
];
/// Texts that no case can have, by how they begin, and why.
const ELSEWHERE: [(&str, &str); 17] = [
    ("{}.workers: auto means {count} here", "host.rs: the CPUs of the host"),
    ("built-in default", "`config show` says it"),
    ("UDP port ", "host.rs: who has it is another on each host"),
    ("another process", "only where the processes of others cannot be seen"),
    ("pool.{}.listen.{}: {by} listens on ", "host.rs: the holder's pid"),
    ("stop it before the start", "host.rs: somebody has to listen"),
    ("{workers} workers (those beside them", "host.rs: the limits of the host"),
    ("the master needs about {descriptors}", "host.rs: the limits of the host"),
    ("raise the limit (ulimit -Hn", "host.rs: the limits of the host"),
    ("{counted} are more processes than", "host.rs: the limits of the host"),
    ("raise it, or start fewer", "host.rs: the limits of the host"),
    ("only {most} signals can wait", "host.rs: the limits of the host"),
    ("raise RLIMIT_SIGPENDING", "host.rs: the limits of the host"),
    ("ask for less, or leave the key out", "host.rs: the limits of the host"),
    ("name a program", "host.rs: somebody has to make a socket"),
    ("and {more} more that are not in this", "more than a hundred keys"),
    ("--workers {argument}: which pool?", "`run` says it better itself"),
];
/// What is only compared or joined is no text.
const COMPARED: [&str; 6] = ["expect", "starts_with", "ends_with", "strip_prefix", "rsplit_once", "contains"];

struct Text {
    at: String,
    /// As written.
    whole: String,
    /// What stands between its placeholders.
    parts: Vec<String>,
}

impl Text {
    fn is_in(&self, said: &str) -> bool {
        let mut rest = said;
        self.parts.iter().all(|part| match rest.split_once(part.as_str()) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    }
}

#[test]
fn every_text_has_its_case() {
    let mut texts = Vec::new();
    for source in SOURCES {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(source), &mut texts);
    }
    assert!(texts.len() > 500, "only {} texts are found", texts.len());
    let said: Vec<String> = super::cases().iter().flat_map(|(_, case)| items(case)).collect();
    let mut excused = ELSEWHERE.map(|(start, _)| (start, false));
    let mut missing = Vec::new();
    for text in texts.iter().filter(|text| !said.iter().any(|item| text.is_in(item))) {
        match excused.iter_mut().find(|(start, _)| text.whole.starts_with(start)) {
            Some((_, used)) => *used = true,
            None => missing.push(format!("{}: {}", text.at, text.whole)),
        }
    }
    assert!(missing.is_empty(), "no case in tests/diagnostics/cases has these:\n{}", missing.join("\n"));
    let idle: Vec<_> = excused.iter().filter(|(_, used)| !used).collect();
    assert!(idle.is_empty(), "these are gone, or have a case now: {idle:?}");
}

/// Where what is said of a running master, and on the way to one, is written: its cases are the tests that provoke it.
const SPOKEN: [&str; 6] = [
    "src/client",
    "src/cli/worker/flags.rs",
    "src/os/dirs.rs",
    "src/os/listener/error.rs",
    "src/runtime/launch.rs",
    "src/runtime/publish.rs",
];
/// What only names a step of a start. The kernel's refusal follows it, and no advice.
const STEPS: [&str; 3] = [
    "make the pipe for its readiness",
    "make a pipe for its output",
    // Its folder for sockets is made before, and fails before.
    "cannot change the root directory to {}: {cause}",
];
/// Shorter words prove nothing.
const TELLING: usize = 12;

#[test]
fn every_text_of_a_running_master_is_expected_by_a_test() {
    let mut texts = Vec::new();
    for source in SPOKEN {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(source), &mut texts);
    }
    let mut expected = Vec::new();
    for folder in ["src", "tests"] {
        literals(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut expected);
    }
    let cases: Vec<String> = super::cases().iter().flat_map(|(_, case)| items(case)).collect();
    let is_expected = |text: &Text| {
        let spoken = |literal: &String| {
            text.parts
                .iter()
                .any(|part| part.contains(literal.as_str()) || literal.contains(part.as_str()) && part.len() >= TELLING)
        };
        expected.iter().any(spoken) || cases.iter().any(|item| text.is_in(item))
    };
    let missing: Vec<_> = texts
        .iter()
        .filter(|text| {
            text.parts.iter().any(|part| part.len() >= TELLING) && !STEPS.contains(&text.whole.as_str()) && !is_expected(text)
        })
        .map(|text| format!("{}: {}", text.at, text.whole))
        .collect();
    assert!(missing.is_empty(), "no test expects these:\n{}", missing.join("\n"));
}

/// The strings in the code of tests.
fn literals(path: &Path, out: &mut Vec<String>) {
    if path.is_dir() {
        return std::fs::read_dir(path).unwrap().for_each(|entry| literals(&entry.unwrap().path(), out));
    }
    if path.extension().is_none_or(|e| e != "rs") || path.ends_with("diagnostics/texts.rs") {
        return;
    }
    let source = std::fs::read_to_string(path).unwrap();
    let of_tests = path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
    let code = match source.split_once("\n#[cfg(test)]\nmod tests {") {
        _ if of_tests => source,
        Some((_, tests)) => format!("mod tests {{{tests}"),
        None => return,
    };
    strings(code.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display())), out);
}

fn strings(stream: TokenStream, out: &mut Vec<String>) {
    for token in stream {
        match token {
            TokenTree::Group(group) => strings(group.stream(), out),
            TokenTree::Literal(literal) => {
                out.extend(string(&literal.to_string()).map(|text| spaced(&text)).filter(|text| text.len() >= TELLING))
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

/// What a case says, each message and each hint in one line again.
fn items(case: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for line in case.split_once("\n== exit").map_or("", |(_, said)| said).lines() {
        // A gutter, with the number of a source line or without.
        let gutter = line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        let begins = !line.starts_with(' ') || ["| ", "= ", "--> "].iter().any(|sign| gutter.starts_with(sign)) || gutter == "|";
        let words = spaced(line);
        match out.last_mut().filter(|_| !begins) {
            Some(last) => *last = format!("{last} {words}"),
            None => out.push(words),
        }
    }
    out
}

fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn collect(path: &Path, out: &mut Vec<Text>) {
    if path.is_dir() {
        let mut inner: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        inner.sort();
        return inner.iter().for_each(|path| collect(path, out));
    }
    let shown = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
    if SILENT.iter().any(|silent| shown.contains(silent)) {
        return;
    }
    let source = std::fs::read_to_string(path).unwrap();
    let code = source.split("\n#[cfg(test)]\nmod tests").next().unwrap();
    walk(code.parse().unwrap(), &shown, false, out);
}

fn walk(stream: TokenStream, file: &str, format: bool, out: &mut Vec<Text>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let punct =
        |at: Option<usize>, c: char| matches!(at.and_then(|at| tokens.get(at)), Some(TokenTree::Punct(p)) if p.as_char() == c);
    let word = |at: Option<usize>| match at.and_then(|at| tokens.get(at)) {
        Some(TokenTree::Ident(word)) => word.to_string(),
        _ => String::new(),
    };
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1);
        let inner = punct(before, '!') && punct(at.checked_sub(2), '#');
        match token {
            // Attributes, and comments, which are some.
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket && (punct(before, '#') || inner) => {}
            TokenTree::Group(_) if COMPARED.contains(&word(before).as_str()) => {}
            TokenTree::Group(group) => {
                let format = punct(before, '!') && matches!(word(at.checked_sub(2)).as_str(), "format" | "write" | "writeln");
                walk(group.stream(), file, format, out);
            }
            // The pattern of a match.
            TokenTree::Literal(_) if punct(Some(at + 1), '=') && punct(Some(at + 2), '>') || word(Some(at + 1)) == "if" => {}
            TokenTree::Literal(literal) => {
                let Some(whole) = string(&literal.to_string()) else { continue };
                // Each line of it is a text of its own.
                for whole in whole.lines().filter(|line| line.trim().contains(' ')).map(str::to_owned) {
                    let parts = if format { parts(&whole) } else { vec![spaced(&whole)] };
                    out.push(Text { at: format!("{file}:{}", literal.span().start().line), whole, parts });
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

/// What stands between the placeholders of a format.
fn parts(format: &str) -> Vec<String> {
    let kept = format.replace("{{", "\u{1}").replace("}}", "\u{2}");
    let pieces = kept.split('{').enumerate().map(|(at, piece)| match at {
        0 => piece,
        _ => piece.split_once('}').map_or("", |(_, after)| after),
    });
    pieces.map(|piece| spaced(piece).replace('\u{1}', "{").replace('\u{2}', "}")).filter(|piece| !piece.is_empty()).collect()
}

/// The value of a string literal; `None`: it is another one.
fn string(literal: &str) -> Option<String> {
    if let Some(raw) = literal.strip_prefix('r') {
        let inner = raw.trim_matches('#');
        return Some(inner.strip_prefix('"')?.strip_suffix('"')?.to_owned());
    }
    let inner = literal.strip_prefix('"')?.strip_suffix('"')?;
    let (mut out, mut rest) = (String::new(), inner.chars());
    while let Some(c) = rest.next() {
        match (c, rest.as_str().chars().next()) {
            ('\\', Some('\n')) => rest = rest.as_str().trim_start().chars(),
            ('\\', Some(c @ ('n' | 't' | 'r'))) => {
                rest.next();
                out.push(if c == 'n' { '\n' } else { ' ' });
            }
            ('\\', Some(_)) => out.extend(rest.next()),
            (c, _) => out.push(c),
        }
    }
    Some(out)
}
