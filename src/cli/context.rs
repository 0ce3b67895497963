//! Owns what a verb knows of its surroundings. `main` reads them once; nobody else asks the process for them.

use std::path::PathBuf;

use crate::config::Facts;
use crate::os::process;

/// Environment, working directory, terminal.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The environment. Variables that are not UTF-8 are left out: a setting or a path made of replacement characters would
    /// be worse than none.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub cwd: PathBuf,
    /// Standard output is a terminal.
    pub tty: bool,
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

    /// Output may have colours (<https://no-color.org>).
    pub fn colours(&self) -> bool {
        self.tty && self.var("NO_COLOR").is_none() && self.var("TERM") != Some("dumb")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let with = |tty, env: &[(&str, &str)]| {
            let env = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            Context { env, cwd: PathBuf::new(), tty }.colours()
        };
        assert!(with(true, &[]));
        assert!(with(true, &[("NO_COLOR", "")]));
        assert!(!with(true, &[("NO_COLOR", "1")]));
        assert!(!with(true, &[("TERM", "dumb")]));
        assert!(!with(false, &[]));
    }
}
