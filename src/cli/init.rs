//! `init`: a commented config to start from. Refuses to touch a file that is there.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};

use super::{Context, Exit, output};

/// A kind of program, what it is, and the config that it starts from.
type Starter = (&'static str, &'static str, &'static str);

/// All of them; the first is the one without `--for`.
const STARTERS: [Starter; 8] = [
    ("any", "a web pool on the sample worker, that runs as it is", include_str!("init/any.toml")),
    ("uvicorn", "Python, ASGI: one uvicorn per worker", include_str!("init/uvicorn.toml")),
    ("gunicorn", "Python, WSGI: one gunicorn per worker", include_str!("init/gunicorn.toml")),
    ("node", "Node.js, without its cluster module", include_str!("init/node.toml")),
    ("php", "PHP queue workers and a scheduler", include_str!("init/php.toml")),
    ("ruby", "Puma, and Sidekiq beside it", include_str!("init/ruby.toml")),
    ("go", "a Go server with socket activation", include_str!("init/go.toml")),
    ("jobs", "job workers without a socket", include_str!("init/jobs.toml")),
];

/// Write a commented config to start from
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  poolmaster init                      ./pools.toml, which runs as it is
  poolmaster init --for uvicorn        the same for a Python web application
  poolmaster init --for jobs - | less  only look

A file that is there is never overwritten.")]
pub struct Args {
    /// The file to write; - is standard output
    #[arg(value_name = "PATH", default_value = "pools.toml")]
    pub path: PathBuf,

    /// For which kind of program
    #[arg(long = "for", value_name = "KIND", default_value = "any", value_parser = kinds())]
    pub kind: String,
}

fn kinds() -> impl clap::builder::TypedValueParser<Value = String> {
    PossibleValuesParser::new(STARTERS.map(|(name, about, _)| PossibleValue::new(name).help(about))).map(|name| name)
}

/// Kinds and their configs.
pub fn starters() -> impl Iterator<Item = (&'static str, &'static str)> {
    STARTERS.iter().map(|(name, _, text)| (*name, *text))
}

/// Writes the file, or prints it.
pub fn run(args: &Args, ctx: &Context) -> Exit {
    let text = starters().find(|(name, _)| *name == args.kind).map_or(STARTERS[0].2, |(_, text)| text);
    if args.path == Path::new("-") {
        return if output::out(text) { Exit::Done } else { Exit::Failed };
    }
    let shown = super::words::printable(&args.path.display().to_string());
    match write(&ctx.cwd.join(&args.path), text) {
        Ok(()) => {
            let named = if args.path == Path::new("pools.toml") { String::new() } else { format!(" {shown}") };
            let next =
                format!("{shown}: written\nnext: look through it, then `poolmaster check{named}` and `poolmaster run{named}`\n");
            if output::out(&next) { Exit::Done } else { Exit::Failed }
        }
        Err(why) => {
            output::err(&format!("poolmaster: cannot write {shown}: {why}\n"));
            Exit::Failed
        }
    }
}

/// Never over a file that is there, a symbolic link included.
fn write(path: &Path, text: &str) -> Result<(), String> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists if path.is_dir() => "it is a folder; name a file in it".to_owned(),
        ErrorKind::AlreadyExists => {
            "it is there already, and is left as it is; name another file, or - to look at the text".to_owned()
        }
        ErrorKind::NotFound => format!("{e}; make the folder first"),
        _ => e.to_string(),
    })?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| {
        // Half a config is worse than none; what cannot be removed is named in the message anyway.
        let _ = std::fs::remove_file(path);
        format!("{e}; nothing is left of it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Facts, Loaded, Sources, explain};

    fn checked(name: &str, text: &str) -> Loaded {
        let facts = Facts { cpus: 4, uid: 1000, cwd: PathBuf::from("/srv/shop"), ..Facts::default() };
        let path = Some(PathBuf::from("pools.toml"));
        let sources = Sources { path, text: Some(text.to_owned()), facts, ..Sources::default() };
        let loaded = explain(&sources).unwrap_or_else(|diagnostics| panic!("{name}: {diagnostics}"));
        assert_eq!(loaded.config.not_yet, Vec::<String>::new(), "{name} asks for what is not there yet");
        loaded
    }

    /// With every key that is only shown put into force; of two for one key the last.
    fn all_shown(text: &str) -> String {
        let is_shown = |line: &str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines() {
            let line = if is_shown(line) { &line[1..] } else { line };
            let key = |line: &str| line.split_once(" = ").map(|(key, _)| key.to_owned());
            if lines.last().is_some_and(|last| key(last).is_some() && key(last) == key(line)) {
                lines.pop();
            }
            lines.push(line.to_owned());
        }
        lines.join("\n")
    }

    #[test]
    fn every_starter_is_right_as_it_is_and_with_all_that_it_shows() {
        for (name, text) in starters() {
            let loaded = checked(name, text);
            assert_eq!(loaded.config.warnings, Vec::<String>::new(), "{name}");
            let shown = all_shown(text);
            assert_ne!(shown, text.trim_end(), "{name} shows nothing more");
            checked(name, &shown);
            assert!(text.lines().all(|line| line.chars().count() <= 140), "{name}: a long line");
        }
    }

    #[test]
    fn the_shown_lines_are_found() {
        assert_eq!(all_shown("# Text.\n#a = 1\n[x]\nb = 1\n#b = 2\n#[y]"), "# Text.\na = 1\n[x]\nb = 2\n[y]");
    }

    #[test]
    fn a_file_that_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pools.toml");
        assert_eq!(write(&path, "one"), Ok(()));
        assert!(write(&path, "two").unwrap_err().contains("is there already"));
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        assert!(write(&dir.path().join("link"), "two").is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        assert!(write(dir.path(), "two").unwrap_err().contains("is a folder"));
        assert!(write(&dir.path().join("a/b"), "two").unwrap_err().contains("make the folder first"));
    }
}
