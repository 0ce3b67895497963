//! Reading sources: tokens, and the paths in them. Comments and texts are no code here, macros are.

use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

pub(super) fn tokens(source: &str) -> Vec<TokenTree> {
    source.parse::<TokenStream>().unwrap().into_iter().collect()
}

pub(super) fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(i)) => Some(i.to_string()),
        _ => None,
    }
}

pub(super) fn punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == wanted)
}

pub(super) fn colons(tokens: &[TokenTree], at: usize) -> bool {
    punct(tokens.get(at), ':') && punct(tokens.get(at + 1), ':')
}

pub(super) fn inside(token: &TokenTree) -> Option<(Delimiter, Vec<TokenTree>)> {
    match token {
        TokenTree::Group(g) => Some((g.delimiter(), g.stream().into_iter().collect())),
        _ => None,
    }
}

/// A path as written out from the root of this crate (`crate`, ...) or from an outside one (`std`, ...).
pub(super) struct Found {
    pub(super) line: usize,
    pub(super) path: Vec<String>,
}

/// Every path in these tokens, groups of `use` written out, `self` and `super` resolved; `here` is the module they stand in.
pub(super) fn paths(tokens: &[TokenTree], here: &[String], out: &mut Vec<Found>) {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if let Some((delimiter, within)) = inside(token) {
            let module = at.checked_sub(2).and_then(|m| ident(tokens.get(m))).is_some_and(|word| word == "mod");
            let mut deeper = here.to_vec();
            if module && delimiter == Delimiter::Brace {
                deeper.extend(ident(tokens.get(at - 1)));
            }
            paths(&within, &deeper, out);
            at += 1;
        } else if ident(Some(token)).is_some() {
            at = path(tokens, at, Vec::new(), here, out);
        } else {
            at += 1;
        }
    }
}

/// One path from `at` on, behind `prefix`; gives where it ends.
pub(super) fn path(tokens: &[TokenTree], mut at: usize, prefix: Vec<String>, here: &[String], out: &mut Vec<Found>) -> usize {
    let line = tokens[at].span().start().line;
    let mut path = prefix;
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(word)) => {
                match word.to_string().as_str() {
                    "crate" => path = vec!["crate".to_owned()],
                    "self" if path.is_empty() => path = here.to_vec(),
                    "super" => {
                        if path.is_empty() {
                            path = here.to_vec();
                        }
                        path.pop();
                    }
                    word => path.push(word.to_owned()),
                }
                at += 1;
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let parts: Vec<TokenTree> = group.stream().into_iter().collect();
                for part in parts.split(|t| punct(Some(t), ',')).filter(|p| !p.is_empty()) {
                    self::path(part, 0, path.clone(), here, out);
                }
                return at + 1;
            }
            _ => break,
        }
        if !colons(tokens, at) {
            break;
        }
        at += 2;
    }
    out.push(Found { line, path });
    at.max(1)
}

/// Where a file of `src/` stands: `crate::runtime::turn`.
pub(super) fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        file.with_extension("").components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
        module.pop();
    }
    module.insert(0, "crate".to_owned());
    module
}
