//! Owns a worker's environment, weakest first: the master's own (or a part of it), scrubbed of what was meant for the master; its user's
//! login; the pool's files of variables; the pool's own; its secrets; the contract's. Files are read at each spawn, and what is in them is
//! never told.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dialects;
use super::launch::setup;
use crate::config::env_file;
use crate::config::spec::{EnvFile, Pool};
use crate::os::io::read_file;
use crate::os::users::Person;
use crate::supervisor::{SpawnError, WorkerId};

/// Most bytes of a file of variables, or of a secret.
const FILE_LIMIT: u64 = 1 << 20;

/// Meant for the master (systemd's list, and our own settings), never for its workers.
pub(super) fn is_scrubbed(name: &[u8]) -> bool {
    const NAMES: [&str; 8] = [
        "NOTIFY_SOCKET",
        "FDSTORE",
        "MAINPID",
        "MANAGERPID",
        "MANAGERPIDFDID",
        "SYSTEMD_EXEC_PID",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
    ];
    const FAMILIES: [&str; 3] = ["LISTEN_", "MEMORY_PRESSURE_", "POOLMASTER_"];
    NAMES.iter().any(|n| n.as_bytes() == name) || FAMILIES.iter().any(|f| name.starts_with(f.as_bytes()))
}

/// `env_pass` names it: as it is, or by what it begins with.
fn is_passed(name: &[u8], pass: &[String]) -> bool {
    pass.iter().any(|wanted| match wanted.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => name == wanted.as_bytes(),
    })
}

/// Variables of a login.
const LOGIN: [&[u8]; 4] = [b"USER", b"LOGNAME", b"HOME", b"SHELL"];

/// Whose login the workers have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Login {
    /// The master's own.
    #[default]
    Masters,
    /// That of a number without a name: none.
    Nameless,
    /// This one's.
    Known(Person),
}

/// Longest argument or variable of a program, its end included (MAX_ARG_STRLEN in the kernel's binfmts.h): 32 pages.
fn longest() -> usize {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().and_then(|n| usize::try_from(n).ok()).unwrap_or(4096)
        * 32
}

/// Why no program can be given this variable.
pub(super) fn too_long(variable: &CStr) -> Option<(String, String)> {
    let (length, longest) = (variable.to_bytes_with_nul().len(), longest());
    if length <= longest {
        return None;
    }
    let name = variable.to_bytes().split(|b| *b == b'=').next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    let why =
        format!("the variable {name} is {length} bytes long with its name, the kernel takes at most {longest} (MAX_ARG_STRLEN)");
    Some((name, why))
}

/// What all workers of a pool share, and what is made anew for each. Names and values are bytes: what the master was given is passed on as
/// it is, whatever its encoding.
#[derive(Debug)]
pub(super) struct Environment {
    /// Finished `KEY=VALUE`s that the pool's files may replace, by name.
    base: BTreeMap<Vec<u8>, CString>,
    /// Finished ones that they may not.
    fixed: Vec<CString>,
    /// Names that no file may set: what the pool sets or removes itself, and the contract's.
    settled: BTreeSet<Vec<u8>>,
    /// Values with words to fill in.
    templates: Vec<(String, String)>,
    files: Vec<EnvFile>,
    secrets: Vec<(String, PathBuf)>,
    /// PATH of the workers.
    pub(super) path: Option<String>,
}

impl Environment {
    /// For one pool under one config; `master` is the environment the master was started with.
    pub(super) fn of(master: &[(OsString, OsString)], pool: &Pool, instance: &str, login: &Login) -> Environment {
        let launch = &pool.launch;
        let given = master.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let wanted = |name: &[u8]| !is_scrubbed(name) && launch.env_pass.as_ref().is_none_or(|pass| is_passed(name, pass));
        let mut base: BTreeMap<&[u8], &[u8]> = given.filter(|(name, _)| wanted(name)).collect();
        match login {
            Login::Masters => {}
            // What is the master's is nobody else's.
            Login::Nameless => base.retain(|name, _| !LOGIN.contains(name)),
            Login::Known(person) => {
                let (home, shell) = (person.home.as_os_str().as_bytes(), person.shell.as_os_str().as_bytes());
                base.extend(LOGIN.into_iter().zip([person.name.as_bytes(), person.name.as_bytes(), home, shell]));
            }
        }
        let mut fixed: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
        let mut settled = BTreeSet::new();
        let mut templates = Vec::new();
        for (name, value) in &launch.env {
            base.remove(name.as_bytes());
            settled.insert(name.clone().into_bytes());
            match value {
                Some(value) if value.contains('{') => templates.push((name.clone(), value.clone())),
                Some(value) => drop(fixed.insert(name.as_bytes(), value.as_bytes())),
                None => {}
            }
        }
        for (name, _) in &launch.secrets {
            base.remove(name.as_bytes());
            settled.insert(name.clone().into_bytes());
        }
        let own = [
            ("POOLMASTER_POOL", pool.spec.name.as_str()),
            ("POOLMASTER_INSTANCE", instance),
            ("POOLMASTER_VERSION", env!("CARGO_PKG_VERSION")),
        ];
        for (name, value) in own {
            fixed.insert(name.as_bytes(), value.as_bytes());
        }
        for name in dialects::names(&launch.protocols) {
            base.remove(name.as_bytes());
            fixed.remove(name.as_bytes());
            templates.retain(|(own, _)| own != name);
            settled.insert(name.as_bytes().to_vec());
        }
        let path = fixed.get(&b"PATH"[..]).or(base.get(&b"PATH"[..]));
        Environment {
            path: path.map(|p| String::from_utf8_lossy(p).into_owned()),
            base: base.into_iter().filter_map(|(n, v)| Some((n.to_vec(), entry(n, v)?))).collect(),
            fixed: fixed.into_iter().filter_map(|(n, v)| entry(n, v)).collect(),
            settled,
            templates,
            files: launch.env_files.clone(),
            secrets: launch.secrets.clone(),
        }
    }

    /// Variables that are too long for any program, and why. What comes from files is not looked at.
    pub(super) fn too_long(&self) -> Vec<(String, String)> {
        self.base.values().chain(&self.fixed).filter_map(|variable| too_long(variable)).collect()
    }

    /// For one worker; LISTEN_PID and its like are written after the fork, when the pid is known.
    pub(super) fn for_worker(
        &self,
        id: WorkerId,
        notify: Option<&OsStr>,
        contract: &[(String, String)],
        expand: impl Fn(&str) -> String,
    ) -> Result<Vec<CString>, SpawnError> {
        let mut env = self.for_hook(expand)?;
        env.extend(contract.iter().filter_map(|(name, value)| entry(name.as_bytes(), value.as_bytes())));
        env.extend(entry(b"POOLMASTER_SLOT", id.slot.to_string().as_bytes()));
        env.extend(entry(b"POOLMASTER_GENERATION", id.generation.to_string().as_bytes()));
        env.extend(notify.and_then(|path| entry(b"NOTIFY_SOCKET", path.as_bytes())));
        Ok(env)
    }

    /// For a command that runs for the pool: what its workers have, but for what is each worker's own.
    pub(super) fn for_hook(&self, expand: impl Fn(&str) -> String) -> Result<Vec<CString>, SpawnError> {
        let mut env = Vec::with_capacity(self.base.len() + self.fixed.len() + self.templates.len() + self.secrets.len() + 16);
        if self.files.is_empty() {
            env.extend(self.base.values().cloned());
        } else {
            env.extend(self.with_files()?.into_values());
        }
        env.extend(self.fixed.iter().cloned());
        env.extend(self.templates.iter().filter_map(|(name, value)| entry(name.as_bytes(), expand(value).as_bytes())));
        for (name, path) in &self.secrets {
            let value = read_secret(path).map_err(|e| setup(&format!("read the secret {name} from {}", path.display()), &e))?;
            env.extend(entry(name.as_bytes(), &value));
        }
        Ok(env)
    }

    fn with_files(&self) -> Result<BTreeMap<Vec<u8>, CString>, SpawnError> {
        let mut vars = self.base.clone();
        for file in &self.files {
            let shown = || format!("read the variables of {}", file.path.display());
            let bytes = match read_file(&file.path, FILE_LIMIT) {
                Err(e) if file.optional && e.kind() == std::io::ErrorKind::NotFound => continue,
                read => read.map_err(|e| setup(&shown(), &e))?,
            };
            let wrong = |what: String| setup(&shown(), &std::io::Error::new(std::io::ErrorKind::InvalidData, what));
            let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text".to_owned()))?;
            let read = env_file::parse(&text).map_err(|(line, what)| wrong(format!("line {line}: {what}")))?;
            for (name, value) in read {
                let name = name.into_bytes();
                if !self.settled.contains(&name)
                    && !is_scrubbed(&name)
                    && let Some(entry) = entry(&name, value.as_bytes())
                {
                    vars.insert(name, entry);
                }
            }
        }
        Ok(vars)
    }
}

/// A secret as it is in its file, without the line end that editors add.
fn read_secret(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut value = read_file(path, FILE_LIMIT)?;
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
    if value.contains(&0) {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "it has a NUL byte in it"));
    }
    Ok(value)
}

/// What is in the files that a pool's environment is read from, as far as it takes to see that it changed. `None`: it cannot be read.
pub(super) fn prints(pool: &Pool) -> Vec<(PathBuf, Option<u64>)> {
    let files = pool.launch.env_files.iter().map(|file| &file.path).chain(pool.launch.secrets.iter().map(|(_, path)| path));
    let print = |path: &PathBuf| {
        let mut hasher = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(&read_file(path, FILE_LIMIT).ok()?, &mut hasher);
        Some(std::hash::Hasher::finish(&hasher))
    };
    files.map(|path| (path.clone(), print(path))).collect()
}

/// A NUL cannot be in an environment; the config refuses it, and what the kernel gave us has none.
fn entry(name: &[u8], value: &[u8]) -> Option<CString> {
    CString::new([name, b"=", value].concat()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the kernel itself is asked")]
    #[test]
    fn a_variable_is_too_long_where_the_kernel_says_so() {
        let of = |length: usize| CString::new(format!("NAME={}", "x".repeat(length - 6))).unwrap();
        let run = |variable: &CStr| {
            let (name, value) = variable.to_str().unwrap().split_once('=').unwrap();
            std::process::Command::new("true").env_clear().env("PATH", "/bin:/usr/bin").env(name, value).status()
        };
        assert_eq!(too_long(&of(longest())), None);
        assert!(run(&of(longest())).unwrap().success());
        let (name, why) = too_long(&of(longest() + 1)).unwrap();
        assert!(name == "NAME" && why.contains(&format!("the variable NAME is {} bytes long", longest() + 1)), "{why}");
        assert_eq!(run(&of(longest() + 1)).unwrap_err().raw_os_error(), Some(libc::E2BIG));
    }
}
