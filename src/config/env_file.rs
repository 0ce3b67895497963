//! Owns the syntax of files of variables: `NAME=VALUE` a line, as systemd's EnvironmentFile and most dotenv files have it. Nothing is
//! expanded: what stands there is the value.

/// Reads all variables, later ones after earlier ones. `Err`: the line (from 1) and what is wrong with it, never its text: it may be secret.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, (usize, &'static str)> {
    let mut out = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut number = 1;
    while !rest.is_empty() {
        let line = rest.split('\n').next().unwrap_or_default();
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            rest = after_line(rest, line);
            number += 1;
            continue;
        }
        let start = trimmed.strip_prefix("export ").map_or(trimmed, str::trim_start);
        let Some((name, _)) = start.split_once('=') else { return Err((number, "it has no NAME=VALUE")) };
        let name = name.trim_end();
        if !is_name(name) {
            return Err((number, "what stands before the = is no name of a variable"));
        }
        // In the text itself: a quoted value may go on in the next lines.
        let at = rest.find('=').map_or(rest.len(), |at| at + 1);
        let (value, length) = value(&rest[at..]).map_err(|what| (number, what))?;
        if value.contains('\0') {
            return Err((number, "a variable cannot hold a NUL byte"));
        }
        out.push((name.to_owned(), value));
        let taken = at + length;
        number += rest[..taken].matches('\n').count();
        let left = rest[taken..].split('\n').next().unwrap_or_default();
        rest = after_line(&rest[taken..], left);
        number += 1;
    }
    Ok(out)
}

/// What follows the line and its end.
fn after_line<'a>(rest: &'a str, line: &str) -> &'a str {
    rest.get(line.len() + 1..).unwrap_or_default()
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_') && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The value at the start of the text, and how much of the text it is.
fn value(text: &str) -> Result<(String, usize), &'static str> {
    let blank = text.len() - text.trim_start_matches([' ', '\t']).len();
    let body = &text[blank..];
    match body.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let (value, length) = quoted(&body[1..], quote).ok_or("a quote is not closed")?;
            let length = blank + 1 + length;
            let left = text[length..].split('\n').next().unwrap_or_default().trim();
            if left.is_empty() || left.starts_with('#') {
                Ok((value, length))
            } else {
                Err("there is text after the closing quote")
            }
        }
        _ => {
            let line = text.split('\n').next().unwrap_or_default();
            Ok((line.trim().to_owned(), line.len()))
        }
    }
}

/// Up to the closing quote. Between double quotes a backslash keeps ", \, $ and ` from their meaning, and `\n` is a new line.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Some((out, at + 1)),
            '\\' if quote == '"' => match chars.next()?.1 {
                'n' => out.push('\n'),
                '\n' => {}
                c @ ('"' | '\\' | '$' | '`') => out.push(c),
                c => out.extend(['\\', c]),
            },
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        parse(text).expect("a good file")
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn lines_become_variables() {
        let text = "# a comment\n\nA=1\n export B = two words \r\n;C=no\nD=\nE=a=b#c\nF='it is $HOME'\nG=\"q\\\"\\$x\\n\" # c\n";
        let want = [("A", "1"), ("B", "two words"), ("D", ""), ("E", "a=b#c"), ("F", "it is $HOME"), ("G", "q\"$x\n")];
        assert_eq!(read(text), pairs(&want));
        assert_eq!(read(""), []);
        assert_eq!(read("A=1"), pairs(&[("A", "1")]));
    }

    #[test]
    fn quoted_values_may_have_several_lines() {
        assert_eq!(read("KEY=\"-----\nabc\n-----\"\nB=2\n"), pairs(&[("KEY", "-----\nabc\n-----"), ("B", "2")]));
        assert_eq!(parse("A='x\ny'\nnonsense\n"), Err((3, "it has no NAME=VALUE")));
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        for (text, line) in
            [("A=1\nB", 2), ("1A=2", 1), ("A B=2", 1), ("=x", 1), ("A=\"open\n\n", 1), ("A='x' y", 1), ("A=\0", 1)]
        {
            assert_eq!(parse(text).expect_err(text).0, line, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(text in r#"[A=\n '"\\é#\r;]{0,60}"#) {
            let _ = parse(&text);
        }
    }
}
