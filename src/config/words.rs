//! Owns splitting a command line into words as a POSIX shell would: blanks, quotes, backslashes. No shell runs: there are no
//! variables, globs, pipes or comments. `${...}` is one unit, so that a default with blanks stays in its word.

/// Words that only mean something to a shell. In a command without a shell they are arguments, which is seldom meant.
const OPERATORS: [&str; 12] = ["|", "||", "&&", "&", ";", ">", ">>", "<", "2>", "2>&1", ">&2", "<<"];

/// Splits a command line. `Err` says what is not closed.
pub fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let into = word.get_or_insert_default();
                loop {
                    match rest.next().ok_or("a ' is not closed")? {
                        '\'' => break,
                        c => into.push(c),
                    }
                }
            }
            '"' => double_quoted(&mut rest, word.get_or_insert_default())?,
            '\\' => match rest.next().ok_or("it ends in a lone backslash")? {
                '\n' => {}
                c => word.get_or_insert_default().push(c),
            },
            '$' => dollar(&mut rest, word.get_or_insert_default()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Inside double quotes a backslash keeps its meaning before these characters only.
fn double_quoted(rest: &mut std::str::Chars<'_>, into: &mut String) -> Result<(), &'static str> {
    loop {
        match rest.next().ok_or("a \" is not closed")? {
            '"' => return Ok(()),
            '$' => dollar(rest, into),
            '\\' => match rest.next().ok_or("a \" is not closed")? {
                '\n' => {}
                c @ ('"' | '\\' | '$' | '`') => into.push(c),
                c => into.extend(['\\', c]),
            },
            c => into.push(c),
        }
    }
}

/// After a `$`: takes `{...}` over as it stands.
fn dollar(rest: &mut std::str::Chars<'_>, into: &mut String) {
    into.push('$');
    // A name, and what may follow it: nothing is searched far away for what is none.
    let inner = rest.as_str().strip_prefix('{').unwrap_or_default();
    let name = inner.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    if rest.as_str().starts_with('{')
        && (inner[name..].starts_with('}') || inner[name..].starts_with(":-"))
        && let Some(end) = rest.as_str().find('}')
    {
        let (unit, after) = rest.as_str().split_at(end + 1);
        into.push_str(unit);
        *rest = after.chars();
    }
}

/// The first unquoted shell operator that stands alone as a word, if any.
pub(super) fn operator(line: &str) -> Option<&'static str> {
    // A quoted operator loses its quotes in `split`; only what is also a blank-separated piece of the line is unquoted.
    let words = split(line).ok()?;
    let found = words.iter().find_map(|word| OPERATORS.iter().find(|op| word == *op))?;
    line.split_whitespace().any(|piece| piece == *found).then_some(found)
}

/// A word that a shell would make something else of, and what to do. Quoted ones are meant as they are. `to_shell`: the program is a shell,
/// which fills in its own variables in a script, whatever quotes it stands in.
pub(super) fn shell_word(line: &str, to_shell: bool) -> Option<(String, &'static str)> {
    const SHELL: &str = "no shell runs; if one is meant: command = [\"sh\", \"-c\", \"...\"]; if not, quote it";
    // Each character, and whether it was quoted: by anything, by what keeps a $ from its meaning.
    let mut word: Vec<(char, bool, bool)> = Vec::new();
    let (mut quote, mut escaped) = (None, false);
    let judge = |word: &[(char, bool, bool)]| {
        let bare = |at: usize, wanted: char| word.get(at).is_some_and(|(c, quoted, _)| *c == wanted && !quoted);
        let digits = word.iter().take_while(|(c, quoted, _)| c.is_ascii_digit() && !quoted).count();
        let dollar = word.windows(2).find_map(|pair| match pair {
            [('$', quoted, false), (next, ..)] if !(*quoted && to_shell) => Some(*next),
            _ => None,
        });
        let last = word.len().checked_sub(1)?;
        let help = match dollar {
            Some('(') => Some(SHELL),
            Some(next) if next.is_ascii_alphabetic() || next == '_' => Some(
                "variables are written ${NAME}, and filled in from the environment of the master; if it is meant as it is, quote it",
            ),
            Some(next) if next.is_ascii_digit() || "@*#?!$-".contains(next) => {
                Some("no shell runs, which alone knows such a parameter; if it is meant as it is, quote it")
            }
            _ if braces(word) => Some("no shell runs, which would make several words of it: write each of them; or quote it"),
            _ if bare(0, '#') => Some("a command has no comments: put it behind the end of the text; or quote it"),
            _ if bare(0, '~') && (last == 0 || bare(1, '/')) => Some("write the whole path, or ${HOME}/..."),
            _ if last > 0 && (bare(last, ';') || bare(last, '&') && !bare(last - 1, '&')) => Some(SHELL),
            _ if bare(digits, '>') || bare(0, '<') || bare(0, '&') && bare(1, '>') => Some(SHELL),
            _ if word.iter().any(|(c, quoted, _)| *c == '`' && !quoted) => Some(SHELL),
            _ if word.iter().any(|(c, quoted, _)| *c == '*' && !quoted) && !word.iter().any(|(c, ..)| *c == ':') => Some(SHELL),
            _ => None,
        };
        help.map(|help| (word.iter().map(|(c, ..)| c).collect::<String>(), help))
    };
    for c in line.chars() {
        match (c, quote) {
            _ if escaped => {
                word.push((c, true, true));
                escaped = false;
            }
            ('\\', None | Some('"')) => escaped = true,
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => {
                if let Some(found) = judge(&word) {
                    return Some(found);
                }
                word.clear();
            }
            (c, quote) => word.push((c, quote.is_some(), quote == Some('\''))),
        }
    }
    judge(&word)
}

/// `{a,b}` or `{1..3}`, unquoted: `bash` makes several words of it.
fn braces(word: &[(char, bool, bool)]) -> bool {
    let Some(open) = word.iter().position(|(c, quoted, _)| *c == '{' && !quoted) else { return false };
    let inner = word[open + 1..].iter().take_while(|(c, quoted, _)| *c != '}' || *quoted);
    let inner: Vec<(char, bool)> = inner.map(|(c, quoted, _)| (*c, *quoted)).collect();
    let closed = word.len() > open + 1 + inner.len();
    let several = inner.contains(&(',', false)) || inner.windows(2).any(|pair| pair == [('.', false), ('.', false)]);
    closed && several && (open == 0 || word[open - 1].0 != '$')
}

/// Joins words so that [`split`] gives them back.
pub fn join(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.,:@%+{}[]".contains(c);
    let quoted = |word: &String| match word.is_empty() || !word.chars().all(plain) {
        true => format!("'{}'", word.replace('\'', r"'\''")),
        false => word.clone(),
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_a_shell_would() {
        let cases: &[(&str, Result<&[&str], &str>)] = &[
            ("", Ok(&[])),
            ("  \t\n ", Ok(&[])),
            ("a b  c", Ok(&["a", "b", "c"])),
            ("a 'b c' d", Ok(&["a", "b c", "d"])),
            (r#"a "b c" d"#, Ok(&["a", "b c", "d"])),
            (r"a\ b c", Ok(&["a b", "c"])),
            (r#"a"b"'c'd"#, Ok(&["abcd"])),
            (r#"'' """#, Ok(&["", ""])),
            (r#""a\"b" "\n" "\$x""#, Ok(&["a\"b", "\\n", "$x"])),
            (r"'a\b'", Ok(&[r"a\b"])),
            ("a\\\nb", Ok(&["ab"])),
            ("a # b", Ok(&["a", "#", "b"])),
            ("echo $HOME *.txt", Ok(&["echo", "$HOME", "*.txt"])),
            ("run ${X:-a b} c", Ok(&["run", "${X:-a b}", "c"])),
            ("run \"${X:-a b}\"", Ok(&["run", "${X:-a b}"])),
            ("awk ${ x", Ok(&["awk", "${", "x"])),
            ("a '", Err("a ' is not closed")),
            ("a \"b", Err("a \" is not closed")),
            ("a \\", Err("it ends in a lone backslash")),
            ("é 'ü ö'", Ok(&["é", "ü ö"])),
        ];
        for (line, want) in cases {
            let got = split(line);
            let want = want.map(|words| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
            assert_eq!(got, want, "{line:?}");
        }
    }

    #[test]
    fn lone_operators_are_noticed_and_quoted_ones_are_not() {
        assert_eq!(operator("a | b"), Some("|"));
        assert_eq!(operator("a > /dev/null 2>&1"), Some(">"));
        assert_eq!(operator("a '|' b"), None);
        assert_eq!(operator("sh -c 'a | b'"), None);
        assert_eq!(operator("a b"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "\\PC{0,60}") {
            let _ = (split(&line), operator(&line));
        }

        #[test]
        fn quotes_and_backslashes_do_not_make_it_panic(line in r#"[ a'"\\$\{\}é\n]{0,30}"#) {
            let _ = (split(&line), operator(&line));
        }

        #[test]
        fn what_was_joined_is_split_into_the_same(words in proptest::collection::vec(r#"[ a-z'"\\$\{\}|é]{0,8}"#, 0..6)) {
            proptest::prop_assert_eq!(split(&join(&words)), Ok(words));
        }
    }

    #[test]
    fn what_a_shell_would_make_something_of_is_seen() {
        for (line, want) in [
            ("echo; ls", Some("echo;")),
            ("sleep 1 2>/dev/null", Some("2>/dev/null")),
            ("server >log", Some(">log")),
            ("server &>log", Some("&>log")),
            ("server <in", Some("<in")),
            ("server $(hostname)", Some("$(hostname)")),
            ("server `hostname`", Some("`hostname`")),
            ("server --dir=$HOME/x", Some("--dir=$HOME/x")),
            ("server \"$HOME\"", Some("$HOME")),
            ("server ~/x", Some("~/x")),
            ("server ~", Some("~")),
            ("wc *.py", Some("*.py")),
            ("server x&", Some("x&")),
            ("server $1", Some("$1")),
            ("server \"$@\"", Some("$@")),
            ("server --pid=$$", Some("--pid=$$")),
            ("server $1.50", Some("$1.50")),
            ("server {a,b}.conf", Some("{a,b}.conf")),
            ("server x{1..3}", Some("x{1..3}")),
            ("server # of the shop", Some("#")),
            ("server '{a,b}' '$1' {fd:main} {slot} {x '#' a#b {\"a\":1}", None),
            ("server '$HOME' '~/x' '*.py' 'a;' '2>x'", None),
            ("server \\$HOME \\*", None),
            ("server ${HOME} {fd} {slot}", None),
            ("server a~b x* ", Some("x*")),
            ("server http://x/?a=1&b=2 --bind=*:80 a@b$ a>b", None),
            ("server \"a*\" \"2>x\"", None),
            ("", None),
        ] {
            assert_eq!(shell_word(line, false).map(|(word, _)| word).as_deref(), want, "{line}");
        }
        // A shell fills in its own; what stands outside of its script is no affair of its.
        assert_eq!(shell_word("sh -c \"echo $HOME; exec x\"", true), None);
        assert_eq!(shell_word("sh -c x $HOME", true).map(|(word, _)| word).as_deref(), Some("$HOME"));
    }
}
