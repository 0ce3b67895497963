//! Owns writing man(7) pages: escapes, paragraphs, lists. Refuses to know what the pages are about.

use std::fmt::Write as _;

/// Lines of the source stay within this, for editors and for `mandoc -T lint`.
const WIDTH: usize = 78;

/// A page that grows.
#[derive(Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// A page with its title line.
    pub(crate) fn new(name: &str, section: u8, manual: &str) -> Page {
        let mut page = Page::default();
        page.raw(".\\\" Made from the definitions in the code: BLESS=1 cargo test --test reference writes it anew.");
        page.raw(&format!(".TH {name} {section} {} \"poolmaster {}\" \"{manual}\"", super::man::DATE, poolmaster::cli::VERSION));
        // No hyphenation, left-aligned: words in manuals are copied.
        // The register, because groff begins to hyphenate again with each paragraph.
        page.raw(".nr HY 0\n.nh\n.ad l");
        page
    }

    /// The source.
    pub(crate) fn done(self) -> String {
        self.text
    }

    /// Lines as they are.
    pub(crate) fn raw(&mut self, lines: &str) {
        let _ = writeln!(self.text, "{lines}");
    }

    /// A heading.
    pub(crate) fn section(&mut self, title: &str) {
        self.raw(&format!(".SH {}", title.to_uppercase()));
    }

    /// A heading within a section.
    pub(crate) fn subsection(&mut self, title: &str) {
        self.raw(&format!(".SS {}", quoted(title)));
    }

    /// A paragraph.
    pub(crate) fn paragraph(&mut self, text: &str) {
        // The first one after a heading needs no mark of its own, and lint says so.
        let after_heading = self.text.lines().next_back().is_some_and(|line| line.starts_with(".SH") || line.starts_with(".SS"));
        if !after_heading {
            self.raw(".PP");
        }
        self.words(&inline(text));
    }

    /// A term, in roff, and what it means.
    pub(crate) fn item(&mut self, term: &str, text: &str) {
        self.item_of(None, term, text);
    }

    /// The same, with room for short terms.
    pub(crate) fn short_item(&mut self, width: usize, term: &str, text: &str) {
        self.item_of(Some(width), term, text);
    }

    fn item_of(&mut self, width: Option<usize>, term: &str, text: &str) {
        match width {
            Some(width) => self.raw(&format!(".TP {width}n")),
            None => self.raw(".TP"),
        }
        self.raw(&guarded(term));
        self.words(&inline(text));
    }

    /// Text as it is, in a typewriter's face.
    pub(crate) fn example(&mut self, lines: &str) {
        self.raw(".RS 4\n.EX");
        for line in lines.lines() {
            self.raw(&guarded(&literal(line)));
        }
        self.raw(".EE\n.RE");
    }

    /// Words in roff, broken into lines.
    pub(crate) fn words(&mut self, text: &str) {
        let mut line = String::new();
        for word in text.split_whitespace() {
            // After a sentence the terminal gets its wider space only at the end of a line.
            let ended = line.ends_with('.') || line.ends_with(".)") || (line.ends_with('?') && !line.ends_with(" ?"));
            if !line.is_empty() && (ended || line.len() + 1 + word.len() > WIDTH) {
                self.raw(&guarded(&line));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        if !line.is_empty() {
            self.raw(&guarded(&line));
        }
    }
}

/// A line that starts with a dot or an apostrophe would be a request.
fn guarded(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

/// The argument of a request.
fn quoted(text: &str) -> String {
    format!("\"{}\"", prose(text).replace('"', "\\(dq"))
}

/// Text that has to be copied as it is.
pub(crate) fn literal(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            c => out.push(c),
        }
    }
    out
}

/// Text for reading. A hyphen stays one, but a minus that belongs to a flag, a path or a number has to be copied.
fn prose(text: &str) -> String {
    let mut out = String::new();
    for (n, word) in text.split(' ').enumerate() {
        if n > 0 {
            out.push(' ');
        }
        let bare = word.trim_start_matches(['(', '"', '[']);
        let copied = bare.starts_with('-') || word.contains(['/', '=', '_', '[', '{', '<', '+']);
        out.push_str(&if copied { literal(word) } else { word.replace('\\', "\\e").replace('~', "\\(ti") });
    }
    out
}

/// Bold, as it is typed.
pub(crate) fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", literal(text))
}

/// What stands for a value.
pub(crate) fn placeholder(text: &str) -> String {
    format!("\\fI{}\\fR", literal(text))
}

/// Text for reading, with code in backticks as bold.
pub(crate) fn inline(text: &str) -> String {
    text.split('`').enumerate().map(|(n, part)| if n % 2 == 1 { bold(part) } else { prose(part) }).collect()
}

#[test]
fn text_comes_out_as_it_was_meant() {
    assert_eq!(inline("say `run --only web`, a re-try of C:\\x"), "say \\fBrun \\-\\-only web\\fR, a re-try of C:\\ex");
    assert_eq!(inline("as in --set pool.web.workers=8"), "as in \\-\\-set pool.web.workers=8");
    let mut page = Page::default();
    page.paragraph(".first 'word'");
    page.example("  it's `x`\n.dot");
    assert_eq!(page.text, ".PP\n\\&.first 'word'\n.RS 4\n.EX\n  it\\(aqs \\(gax\\(ga\n\\&.dot\n.EE\n.RE\n");
}
