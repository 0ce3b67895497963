//! The pages of section 1: the whole command line, and one page for each verb.

use std::io::Write as _;
use std::process::{Command, Stdio};

use clap::builder::ValueRange;
use clap::{Arg, ArgAction};
use poolmaster::cli::manual::{Entry, entries};
use poolmaster::cli::{self, Exit};

use super::drift;
use super::roff::{Page, bold, inline, placeholder};

/// When the pages were last read by a person from the first line to the last.
pub(crate) const DATE: &str = "2026-11-23";
const MANUAL: &str = "poolmaster manual";

/// The command line, with its generated flags.
fn command() -> clap::Command {
    let mut command = cli::command();
    command.build();
    command
}

/// The parts of a verb's closing help: its examples, and what else it says.
#[derive(Debug, Default, PartialEq)]
struct Closing {
    /// Command and comment.
    examples: Vec<(String, String)>,
    paragraphs: Vec<String>,
}

impl Closing {
    fn of(command: &clap::Command) -> Closing {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let mut closing = Closing::default();
        for part in text.split("\n\n") {
            match part.strip_prefix("Examples:\n").or_else(|| part.strip_prefix("Example:\n")) {
                Some(lines) => lines.lines().for_each(|line| closing.example(line)),
                // The exit codes have a section of their own.
                None if part.starts_with("Exit codes:") || part.is_empty() => {}
                None => closing.paragraphs.push(part.replace('\n', " ")),
            }
        }
        closing
    }

    /// `  COMMAND    comment`; a line indented further goes on with the comment of the last one.
    fn example(&mut self, line: &str) {
        let deep = line.len() - line.trim_start().len() > 4;
        match self.examples.last_mut() {
            Some((_, comment)) if deep => {
                let gap = if comment.is_empty() { "" } else { " " };
                comment.push_str(&format!("{gap}{}", line.trim()));
            }
            _ => {
                let line = line.trim();
                let (typed, comment) = line.split_once("   ").unwrap_or((line, ""));
                self.examples.push((typed.trim().to_owned(), comment.trim().to_owned()));
            }
        }
    }
}

/// A flag with its values: `--only POOL`.
fn flag(arg: &Arg) -> String {
    let mut names: Vec<String> = arg.get_short().map(|c| bold(&format!("-{c}"))).into_iter().collect();
    names.extend(arg.get_long().map(|long| bold(&format!("--{long}"))));
    let value = if takes_value(arg) { format!(" {}", placeholder(&value_name(arg))) } else { String::new() };
    format!("{}{value}", names.join(", "))
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

fn value_name(arg: &Arg) -> String {
    arg.get_value_names().map(|names| names.join(" ")).unwrap_or_else(|| arg.get_id().as_str().to_uppercase())
}

/// What its help says, with defaults and values.
fn about(arg: &Arg) -> String {
    let mut text = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default().replace('\n', " ");
    text = text.replace("(may be repeated)", "").trim().to_owned();
    // "[default: ...]" and "[env: ...]" become sentences.
    let mut remarks = Vec::new();
    while let Some(at) = text.rfind(" [").filter(|_| text.ends_with(']')) {
        let remark = text[at + 2..text.len() - 1].to_owned();
        text.truncate(at);
        remarks.insert(0, remark);
    }
    if !text.ends_with('.') {
        text.push('.');
    }
    for remark in remarks {
        text.push_str(&match remark.split_once(": ") {
            Some(("default", value)) => format!(" Default: {value}."),
            Some(("env", name)) => format!(" Else the environment variable `{name}`."),
            _ => panic!("what is [{remark}]?"),
        });
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if takes_value(arg) && !defaults.is_empty() {
        text.push_str(&format!(" Default: {}.", defaults.join(" ")));
    }
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({help})", value.get_name()),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if takes_value(arg) && !values.is_empty() {
        text.push_str(&format!(" One of {}.", values.join(", ")));
    }
    if matches!(arg.get_action(), ArgAction::Append) && !arg.is_positional() {
        text.push_str(" May be repeated.");
    }
    text
}

fn positional(arg: &Arg) -> String {
    let many = arg.get_num_args().is_some_and(|range: ValueRange| range.max_values() > 1);
    let dots = if many { " ..." } else { "" };
    let name = placeholder(&value_name(arg));
    let last = if arg.is_last_set() { format!("{} ", bold("--")) } else { String::new() };
    // `stop` alone has an answer of its own, for which clap has to let it pass.
    if arg.is_required_set() || arg.get_id() == "pools" { format!("{last}{name}{dots}") } else { format!("[{last}{name}{dots}]") }
}

fn visible(command: &clap::Command) -> Vec<&Arg> {
    command.get_arguments().filter(|arg| !arg.is_hide_set()).collect()
}

fn synopsis(page: &mut Page, words: &str, command: &clap::Command) {
    let mut line = bold(words);
    let args = visible(command);
    if args.iter().any(|arg| !arg.is_positional()) {
        line.push_str(&format!(" [{} ...]", placeholder("OPTION")));
    }
    for arg in args.iter().filter(|arg| !arg.is_positional() && arg.is_required_set()) {
        line.push_str(&format!(" {}", flag(arg)));
    }
    for arg in args.into_iter().filter(|arg| arg.is_positional()) {
        line.push(' ');
        line.push_str(&positional(arg));
    }
    page.raw(&line);
}

/// Arguments, then flags by their headings.
fn options(page: &mut Page, command: &clap::Command) {
    let args = visible(command);
    let mut headings: Vec<Option<&str>> = Vec::new();
    for arg in args.iter().filter(|arg| !arg.is_positional()) {
        if !headings.contains(&arg.get_help_heading()) {
            headings.push(arg.get_help_heading());
        }
    }
    for arg in args.iter().filter(|arg| arg.is_positional()) {
        page.item(&placeholder(&value_name(arg)), &about(arg));
    }
    headings.sort_by_key(Option::is_some);
    for heading in headings {
        if let Some(title) = heading {
            page.subsection(title);
        }
        for arg in args.iter().filter(|arg| !arg.is_positional() && arg.get_help_heading() == heading) {
            page.item(&flag(arg), &about(arg));
        }
    }
}

fn sentence(text: &str) -> String {
    let text = text.trim();
    if text.ends_with(['.', ':']) { text.to_owned() } else { format!("{text}.") }
}

fn exit_status(page: &mut Page, endings: &[(Exit, &str)]) {
    page.section("exit status");
    for (exit, words) in endings {
        page.short_item(5, &bold(&exit.code().to_string()), words);
    }
}

fn examples(page: &mut Page, examples: &[(String, String)]) {
    page.section("examples");
    for (typed, comment) in examples {
        page.item(&bold(typed), &if comment.is_empty() { String::new() } else { sentence(&upper_first(comment)) });
    }
}

/// Other pages, in the order of their sections and names.
fn see_also(page: &mut Page, mut pages: Vec<(u8, String)>) {
    page.section("see also");
    pages.sort();
    let shown: Vec<String> = pages.iter().map(|(section, name)| format!("{}({section})", bold(name))).collect();
    page.raw(&shown.join(",\n"));
}

/// The page of a verb.
fn verb_page(entry: &Entry, verb: &clap::Command) -> String {
    let name = format!("poolmaster-{}", entry.verb);
    let about = verb.get_about().unwrap().to_string();
    let mut page = Page::new(&name.to_uppercase(), 1, MANUAL);
    page.section("name");
    page.words(&format!("{} \\- {}", name.replace('-', "\\-"), inline(&lower_first(&about))));
    page.section("synopsis");
    let inner: Vec<&clap::Command> = verb.get_subcommands().filter(|inner| inner.get_name() != "help").collect();
    match inner.as_slice() {
        [] => synopsis(&mut page, &format!("poolmaster {}", entry.verb), verb),
        inner => {
            for (n, command) in inner.iter().enumerate() {
                if n > 0 {
                    page.raw(".br");
                }
                synopsis(&mut page, &format!("poolmaster {} {}", entry.verb, command.get_name()), command);
            }
        }
    }
    page.section("description");
    page.paragraph(&sentence(&about));
    let closing = Closing::of(verb);
    // The long help starts with the short one.
    let long = verb.get_long_about().map(ToString::to_string).unwrap_or_default();
    let rest = long.strip_prefix(&about).unwrap_or_default().trim().to_owned();
    let told = std::iter::once(rest).chain(entry.text.iter().map(|text| (*text).to_owned())).chain(closing.paragraphs.clone());
    for text in told.filter(|text| !text.is_empty()) {
        page.paragraph(&sentence(&text));
    }
    if !inner.is_empty() {
        page.section("commands");
        for command in &inner {
            let mut term = bold(command.get_name());
            visible(command)
                .iter()
                .filter(|arg| arg.is_positional())
                .for_each(|arg| term.push_str(&format!(" {}", positional(arg))));
            let arguments: Vec<String> = visible(command)
                .iter()
                .filter(|arg| arg.is_positional())
                .map(|arg| format!("{}: {}", value_name(arg), lower_first(&self::about(arg))))
                .collect();
            let text = format!("{} {}", sentence(&command.get_about().unwrap().to_string()), arguments.join(" "));
            page.item(&term, &text);
        }
    }
    page.section("options");
    options(&mut page, verb);
    exit_status(&mut page, &entry.endings());
    page.section("files");
    for (path, words) in entry.files() {
        page.item(&placeholder(path), words);
    }
    examples(&mut page, &closing.examples);
    let mut others: Vec<(u8, String)> = entry.see_also.iter().map(|verb| (1, format!("poolmaster-{verb}"))).collect();
    others.push((1, "poolmaster".to_owned()));
    if ["run", "check", "config", "reload", "init"].contains(&entry.verb) {
        others.push((5, "pools.toml".to_owned()));
    }
    see_also(&mut page, others);
    page.done()
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().map(|c| c.to_lowercase().collect()).unwrap_or_default();
    // "HTTP ..." stays.
    if text.chars().nth(1).is_some_and(char::is_uppercase) { text.to_owned() } else { format!("{first}{}", chars.as_str()) }
}

/// The page of the whole, whose prose is written by hand around what the definitions give.
fn main_page(command: &clap::Command) -> String {
    let mut verbs = Page::default();
    for (group, names) in cli::groups() {
        verbs.subsection(group);
        for name in names {
            let about = command.find_subcommand(name).unwrap().get_about().unwrap().to_string();
            verbs.short_item(13, &bold(name), &sentence(&about));
        }
    }
    let mut flags = Page::default();
    options(&mut flags, command);
    let mut codes = Page::default();
    for exit in Exit::ALL {
        let (here, of_run) = (exit.meaning(), exit.meaning_of_run());
        let text =
            if here == of_run { sentence(here) } else { format!("{}. From `poolmaster run`: {}.", upper_first(here), of_run) };
        codes.short_item(5, &bold(&exit.code().to_string()), &upper_first(&text));
    }
    let mut shown = Page::default();
    for (typed, comment) in Closing::of(command).examples {
        shown.item(&bold(&typed), &sentence(&upper_first(&comment)));
    }
    let mut pages: Vec<(u8, String)> = entries().iter().map(|entry| (1, format!("poolmaster-{}", entry.verb))).collect();
    pages.push((5, "pools.toml".to_owned()));
    let mut others = Page::default();
    see_also(&mut others, pages);
    let others = others.done().replacen(".SH SEE ALSO\n", "", 1);
    filled(
        "man/poolmaster.1.in",
        &Page::new("POOLMASTER", 1, MANUAL).done(),
        &[
            ("@VERBS@", verbs.done()),
            ("@OPTIONS@", flags.done()),
            ("@CODES@", codes.done()),
            ("@EXAMPLES@", shown.done()),
            ("@PAGES@", others),
        ],
    )
}

fn upper_first(text: &str) -> String {
    // The name of a key stays as it is.
    if text.split([' ', ',']).next().is_some_and(|word| word.contains('_')) {
        return text.to_owned();
    }
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default() + chars.as_str()
}

/// A page by hand, with its marks replaced by what the definitions give. Comments of the file itself are left out.
pub(crate) fn filled(template: &str, head: &str, marks: &[(&str, String)]) -> String {
    let text = std::fs::read_to_string(drift::root().join(template)).unwrap();
    let mut out = head.to_owned();
    out.extend(text.lines().filter(|line| !line.starts_with(".\\\"")).map(|line| format!("{line}\n")));
    for (mark, made) in marks {
        assert_eq!(out.matches(mark).count(), 1, "{template}: {mark}");
        out = out.replace(&format!("{mark}\n"), made);
    }
    let left = out.lines().find(|line| line.len() > 2 && line.starts_with('@') && line.ends_with('@'));
    assert_eq!(left, None, "{template}: a mark is left");
    out
}

/// All pages of section 1, by file name.
fn pages() -> Vec<(String, String)> {
    let command = command();
    let mut pages = vec![("poolmaster.1".to_owned(), main_page(&command))];
    for entry in entries() {
        let verb = command.find_subcommand(entry.verb).unwrap();
        pages.push((format!("poolmaster-{}.1", entry.verb), verb_page(entry, verb)));
    }
    pages
}

#[test]
fn the_checked_in_pages_are_the_made_ones() {
    let pages = pages();
    for (name, text) in &pages {
        drift::same(&format!("man/{name}"), text);
    }
    let names: Vec<String> = pages.into_iter().map(|(name, _)| name).collect();
    drift::no_others("man", |name| name.ends_with(".1"), &names);
}

#[test]
fn every_page_has_every_section() {
    for (name, text) in pages() {
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "FILES", "EXAMPLES", "SEE ALSO"] {
            assert!(text.contains(&format!("\n.SH {section}\n")), "{name} has no {section}");
        }
        assert!(!text.lines().any(|line| line.is_empty()), "{name}: an empty line");
        assert!(!text.contains(".SH EXAMPLES\n.SH"), "{name} has no example");
    }
}

/// The program, or `None` after saying that what follows is skipped.
pub(crate) fn tool(name: &str) -> Option<Command> {
    let found = std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()));
    if !found {
        eprintln!("skipped: {name} is not installed");
    }
    found.then(|| Command::new(name))
}

/// A program's answer to a text on standard input: both of its outputs.
pub(crate) fn piped(mut command: Command, text: &str) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A page may be longer than a pipe: written beside the reading.
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(text.as_bytes()).unwrap());
        let output = child.wait_with_output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    })
}

/// Fails for a page in which `mandoc` finds something wrong, or which does not fit a terminal of 80 columns.
pub(crate) fn reads_well(name: &str, text: &str) {
    let (Some(mut lint), Some(mut show)) = (tool("mandoc"), tool("mandoc")) else { return };
    lint.args(["-T", "lint", "-W", "style"]);
    let said = piped(lint, text);
    assert_eq!(said, "", "{name}");
    show.args(["-T", "ascii", "-O", "width=78"]);
    let shown = piped(show, text);
    // Bold and underlined letters are overstruck: each backspace takes two characters back to one.
    let columns = |line: &str| line.chars().count() - 2 * line.matches('\u{8}').count();
    let wide: Vec<&str> = shown.lines().filter(|line| columns(line) > 80).collect();
    assert!(wide.is_empty(), "{name}: {wide:#?}");
}

#[test]
fn mandoc_has_nothing_to_say_about_the_pages() {
    for (name, text) in pages() {
        reads_well(&name, &text);
    }
}

#[test]
fn examples_are_read_from_the_help() {
    let command = clap::Command::new("x")
        .after_help("Examples:\n  a b     one\n              more\n  c --flag\n\nAnd\nmore.\n\nExit codes: 0.");
    let want = Closing {
        examples: vec![("a b".to_owned(), "one more".to_owned()), ("c --flag".to_owned(), String::new())],
        paragraphs: vec!["And more.".to_owned()],
    };
    assert_eq!(Closing::of(&command), want);
}
