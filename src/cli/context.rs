//! Owns what a verb knows of its surroundings. `main` reads them once; nobody else asks the process for them.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::config::Facts;
use crate::os::process;

/// Environment, working directory, terminal.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The environment. Variables that are not UTF-8 are left out: a setting or a path made of replacement characters would
    /// be worse than none.
    pub env: Vec<(String, String)>,
    /// The environment as it is, for workers: nothing of it is lost.
    pub environ: Vec<(OsString, OsString)>,
    /// The command line, the program first.
    pub args: Vec<OsString>,
    /// The working directory, see [`working_directory`].
    pub cwd: PathBuf,
    /// Standard output is a terminal.
    pub tty: bool,
    /// So is standard error.
    pub stderr_tty: bool,
}

/// The working directory by the name that `PWD` gives it, where that names the same place: a symbolic link to the current release is
/// followed anew after each deployment, its target is not. One that is deleted is no reason not to show a status.
pub fn working_directory(pwd: Option<PathBuf>, real: Option<PathBuf>) -> PathBuf {
    let place = |path: &PathBuf| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    let here = place(&PathBuf::from("."));
    let named = pwd.filter(|pwd| pwd.is_absolute() && here.is_some() && place(pwd) == here);
    named.or(real).unwrap_or_else(|| PathBuf::from("."))
}

impl Context {
    /// A variable. An empty one counts as unset.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// What a config may depend on.
    pub fn facts(&self) -> Facts {
        let absolute = |name| self.var(name).filter(|dir| dir.starts_with('/')).map(PathBuf::from);
        Facts {
            cpus: u32::try_from(process::cpus()).unwrap_or(1),
            uid: process::effective_uid(),
            cwd: self.cwd.clone(),
            runtime_dir: self.var("POOLMASTER_RUNTIME_DIR").map(|dir| self.cwd.join(dir)),
            xdg_runtime_dir: absolute("XDG_RUNTIME_DIR"),
        }
    }

    /// What goes to standard error may be drawn over.
    pub fn live(&self) -> bool {
        self.stderr_tty && self.var("TERM") != Some("dumb")
    }

    /// Output may have colours (<https://no-color.org>).
    pub fn colours(&self) -> bool {
        self.tty && self.var("NO_COLOR").is_none() && self.var("TERM") != Some("dumb")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_working_directory_is_kept_where_it_is_right() {
        let here = std::env::current_dir().unwrap();
        let temp = tempfile::tempdir().unwrap();
        let link = temp.path().join("current");
        std::os::unix::fs::symlink(&here, &link).unwrap();
        let of = |pwd: Option<PathBuf>| working_directory(pwd, Some(here.clone()));
        assert_eq!(of(Some(link.clone())), link);
        for wrong in [None, Some(temp.path().to_owned()), Some(PathBuf::from(".")), Some(PathBuf::from("/nowhere"))] {
            assert_eq!(of(wrong), here);
        }
        assert_eq!(working_directory(None, None), PathBuf::from("."));
    }

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let with = |tty, env: &[(&str, &str)]| {
            let env = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            Context { env, tty, ..Context::default() }.colours()
        };
        assert!(with(true, &[]));
        assert!(with(true, &[("NO_COLOR", "")]));
        assert!(!with(true, &[("NO_COLOR", "1")]));
        assert!(!with(true, &[("TERM", "dumb")]));
        assert!(!with(false, &[]));
    }
}
