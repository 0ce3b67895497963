//! Owns finding and reading config files: the search order, include patterns, the size limit, and who may write them. The only
//! part of this room that touches the host.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostics::{Diagnostic, Diagnostics};
use super::node::{At, Layer, Node, Place, Raw, Text};
use super::template::{Use, resolve};
use super::value::address::absolute;
use super::{Sources, json_text, toml_text};

/// Largest config file, in bytes.
const LIMIT: u64 = 1 << 20;
/// Where a config is looked for when none is named.
const SEARCHED: [&str; 2] = ["pools.toml", "/etc/poolmaster/pools.toml"];

/// The config file, read. `path` is `None` when the text came from the caller without one.
pub(super) struct Main {
    pub(super) path: Option<PathBuf>,
    /// As the user knows it.
    pub(super) shown: Option<PathBuf>,
    /// `None`: it has errors.
    pub(super) root: Option<Node>,
}

/// Reads the config file that `sources` names, or the first one found.
pub(super) fn main_file(sources: &Sources, diags: &mut Diagnostics) -> Main {
    let cwd = &sources.facts.cwd;
    let full = |path: &Path| absolute(&path.to_string_lossy(), cwd);
    if let Some(body) = &sources.text {
        let name = sources.path.as_ref().map_or_else(|| "(text)".to_owned(), |path| path.display().to_string());
        let root = parse(Text::new(name, body.clone()), Layer::File, diags);
        return Main { path: sources.path.as_deref().map(full), shown: sources.path.clone(), root };
    }
    let found = match &sources.path {
        Some(path) => Some(path.clone()),
        None => SEARCHED.iter().map(PathBuf::from).find(|path| full(path).exists()),
    };
    let Some(path) = found else {
        let looked = SEARCHED.map(|path| full(Path::new(path)).display().to_string()).join(" and ");
        let error = Diagnostic::error(None, format!("there is no config file: looked at {looked}"));
        diags.push(
            error.help("name one: `poolmaster run CONFIG`, or start without a file: `poolmaster run --listen :8000 -- COMMAND`"),
        );
        return Main { path: None, shown: None, root: None };
    };
    let absolute_path = full(&path);
    let root = match read(&absolute_path, path.display().to_string(), sources.facts.uid, diags) {
        Ok(text) => parse(text, Layer::File, diags),
        Err(why) => {
            let error = Diagnostic::error(None, format!("cannot read the config {}: {why}", absolute_path.display()));
            let looked = SEARCHED.map(|path| full(Path::new(path)).display().to_string()).join(" and ");
            let missing = !absolute_path.exists();
            diags.push(if missing { error.help(format!("without an argument, {looked} are looked at")) } else { error });
            None
        }
    };
    Main { path: Some(absolute_path), shown: Some(path), root }
}

/// Reads the files that the patterns name: each pattern's in sorted order, no file twice. False: not all of them could be read.
pub(super) fn includes(
    patterns: &[(Option<String>, Place)],
    main: Option<&Path>,
    shown_folder: &Path,
    sources: &Sources,
    diags: &mut Diagnostics,
) -> (Vec<Node>, bool) {
    let folder = main.and_then(Path::parent).unwrap_or(&sources.facts.cwd);
    // By whatever name they are called.
    let identity = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut seen: Vec<PathBuf> = main.map(identity).into_iter().collect();
    let (mut roots, mut files) = (Vec::new(), 0u32);
    let mut complete = true;
    for (pattern, place) in patterns {
        let Some(pattern) = pattern else {
            complete = false;
            continue;
        };
        let matched = match matches(pattern, folder) {
            Ok(matched) => matched,
            Err(why) => {
                let help = match why.starts_with("cannot list") {
                    true => "let the user of the master read that folder, or name another one",
                    false => "name a file, or several with * and ? in the last part: \"conf.d/*.toml\"",
                };
                diags.error(place, format!("include: {why}"), help);
                complete = false;
                continue;
            }
        };
        for path in matched {
            let real = identity(&path);
            if seen.contains(&real) {
                continue;
            }
            seen.push(real);
            let shown = path.strip_prefix(folder).map_or_else(|_| path.clone(), |tail| shown_folder.join(tail));
            let layer = Layer::Include(files);
            files += 1;
            let before = roots.len();
            match read(&path, shown.display().to_string(), sources.facts.uid, diags) {
                Ok(text) => roots.extend(parse(text, layer, diags)),
                Err(why) => {
                    let help = if path.is_dir() {
                        format!("write \"{}/*.toml\" for all files in it", pattern.trim_end_matches('/'))
                    } else if why == NOT_THERE {
                        "a pattern with * may match nothing, a plain path may not".to_owned()
                    } else {
                        "an included file is TOML or JSON text that the user of the master can read".to_owned()
                    };
                    diags.error(place, format!("include: cannot read {}: {why}", path.display()), help);
                }
            }
            complete &= roots.len() > before;
        }
    }
    (roots, complete)
}

/// The include patterns of a root, with their places. `None`: a variable in it is not set, which is said where values are checked.
pub(super) fn include_patterns(root: &Node, env: &BTreeMap<String, String>) -> Vec<(Option<String>, Place)> {
    let lookup = |name: &str| env.get(name).map(String::as_str);
    match root.get("include").map(|node| &node.raw) {
        Some(Raw::List(items)) => items
            .iter()
            .filter_map(|item| match &item.raw {
                Raw::Str(text) => Some((resolve(text, &lookup, Use::Value).ok(), item.place.clone())),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn read(path: &Path, name: String, uid: u32, diags: &mut Diagnostics) -> Result<Text, String> {
    // Not opened before it is known to be a file: a FIFO would block, and could not be read again at a reload.
    let meta = fs::metadata(path).map_err(|e| words(&e))?;
    if !meta.is_file() {
        return Err(if meta.is_dir() { "it is a folder".to_owned() } else { "it is no regular file".to_owned() });
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes)).map_err(|e| words(&e))?;
    if bytes.len() as u64 > LIMIT {
        return Err("it is larger than 1 MiB".to_owned());
    }
    if bytes.contains(&0) {
        return Err("it is no text: it has NUL bytes in it".to_owned());
    }
    let body =
        String::from_utf8(bytes).map_err(|e| format!("it is not UTF-8 text (at byte {})", e.utf8_error().valid_up_to()))?;
    let others = meta.mode() & 0o002 != 0 || (meta.mode() & 0o020 != 0 && meta.gid() != 0) || meta.uid() != 0;
    if uid == 0 && others {
        let start = Place { layer: Layer::File, at: At::Flag(name.as_str().into()) };
        diags.push(
            Diagnostic::warning(None, format!("{}: other users may write this file, and the master runs as root", start.words()))
                .help(format!("chown root {0} && chmod go-w {0}", path.display())),
        );
    }
    Ok(Text::new(name, body))
}

/// What is said of a file that is missing.
const NOT_THERE: &str = "there is no such file";

/// The error without its number, as a person would say it.
fn words(e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::NotFound => NOT_THERE.to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => e.to_string(),
    }
}

fn parse(text: Text, layer: Layer, diags: &mut Diagnostics) -> Option<Node> {
    let json = Path::new(&text.name).extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    let text = Arc::new(text);
    if json { json_text::document(&text, layer, diags) } else { toml_text::document(&text, layer, diags) }
}

/// The files a pattern names, sorted. A path without `*` and `?` is itself, there or not.
fn matches(pattern: &str, folder: &Path) -> Result<Vec<PathBuf>, String> {
    if pattern.is_empty() {
        return Err("\"\" names no file".to_owned());
    }
    let full = absolute(pattern, folder);
    let wild = |text: &str| text.contains(['*', '?']);
    let (Some(parent), Some(last)) = (full.parent(), full.file_name().map(|n| n.to_string_lossy().into_owned())) else {
        return Err(format!("{pattern:?} names no file"));
    };
    if wild(&parent.to_string_lossy()) {
        return Err(format!("{pattern:?} has * or ? in a folder's name"));
    }
    if !wild(&last) {
        return Ok(vec![full]);
    }
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(format!("cannot list {}: {}", parent.display(), words(&e))),
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            !name.starts_with('.') && fits(last.as_bytes(), name.as_bytes())
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    Ok(found)
}

/// `*` is any run of bytes, `?` any one.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    // The last star seen, and the part of the name it has taken so far.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        if p < pattern.len() && (pattern[p] == name[n] || pattern[p] == b'?') && pattern[p] != b'*' {
            (p, n) = (p + 1, n + 1);
        } else if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, n));
            p += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, n) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, want) in [
            ("*.toml", "a.toml", true),
            ("*.toml", "a.tom", false),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXc", false),
            ("?.toml", "a.toml", true),
            ("?.toml", "ab.toml", false),
            ("", "", true),
            ("", "a", false),
            ("**", "abc", true),
            ("a?", "a", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), want, "{pattern} {name}");
        }
    }

    #[test]
    fn a_missing_folder_of_a_pattern_matches_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(matches("conf.d/*.toml", dir.path()), Ok(vec![]));
        assert!(matches("c*/a.toml", dir.path()).is_err());
        assert_eq!(matches("a.toml", dir.path()), Ok(vec![dir.path().join("a.toml")]));
    }
}
