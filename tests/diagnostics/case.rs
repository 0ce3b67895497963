//! Owns reading one case, making its files, running its command, and writing what was said in a form that is the same everywhere.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A case: parts that begin with `== `, the title before them.
pub(crate) struct Case {
    /// All that the author wrote, `== exit` and what follows left out.
    pub(crate) given: String,
    parts: Vec<(String, String)>,
}

/// As long as the folder that a case really runs in, so that lines break at the same words.
const SHOWN: &str = "/srv/shop/site";

impl Case {
    pub(crate) fn read(text: &str) -> Result<Case, String> {
        let given = match text.find("\n== exit") {
            Some(at) => &text[..=at],
            None => text,
        };
        let mut parts: Vec<(String, String)> = Vec::new();
        for line in given.lines() {
            match line.strip_prefix("== ") {
                Some(head) => parts.push((head.to_owned(), String::new())),
                None => {
                    if let Some((_, body)) = parts.last_mut() {
                        body.push_str(line);
                        body.push('\n');
                    }
                }
            }
        }
        if parts.iter().filter(|(head, _)| head.starts_with("$ ")).count() != 1 {
            return Err("has no command: == $ poolmaster check".to_owned());
        }
        Ok(Case { given: given.to_owned(), parts })
    }

    /// It can only be tried by root: another user is told of that instead.
    pub(crate) fn needs_root(&self) -> bool {
        self.parts.iter().any(|(head, _)| head == "root" || head.starts_with("user "))
    }

    /// Runs the case in a folder of its own.
    pub(crate) fn said(&self) -> String {
        let dir = tempfile::Builder::new().prefix("pmd").rand_bytes(6).tempdir_in("/tmp").unwrap();
        let root = dir.path();
        assert_eq!(root.as_os_str().len(), SHOWN.len());
        fs::set_permissions(root, Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(root.join("run")).unwrap();
        fs::set_permissions(root.join("run"), Permissions::from_mode(0o700)).unwrap();
        program(&root.join("bin/server"), "#!/bin/sh\nexec true\n", 0o755);
        let mut env: Vec<(String, OsString)> = Vec::new();
        let (mut command, mut user) = (Vec::new(), None);
        for (head, body) in &self.parts {
            let body = body.replace(SHOWN, root.to_str().unwrap());
            let words: Vec<&str> = head.split(' ').collect();
            match words[..] {
                ["file", name] => file(&root.join(name), body.trim_start_matches("\\\n")),
                ["program", name] => program(&root.join(name), &body, 0o755),
                ["program", name, mode] => program(&root.join(name), &body, octal(mode)),
                ["folder", name, mode] => folder(&root.join(name), octal(mode)),
                ["mode", name, mode] => fs::set_permissions(root.join(name), Permissions::from_mode(octal(mode))).unwrap(),
                ["link", name, to] => symlink(to, root.join(name)).unwrap(),
                // After what is there already.
                ["repeat", name, times] => {
                    let there = fs::read_to_string(root.join(name)).unwrap_or_default();
                    file(&root.join(name), &(there + &body.repeat(times.parse().unwrap())));
                }
                ["hex", name] => fs::write(root.join(name), bytes(&body)).unwrap(),
                ["root"] => {}
                ["user", uid] => user = Some(uid.parse().unwrap()),
                ["env"] => env.extend(body.lines().map(|line| {
                    let (name, value) = line.split_once('=').unwrap();
                    (name.to_owned(), value.into())
                })),
                ["variable", name] => env.push((name.to_owned(), OsString::from_vec(bytes(&body)))),
                ["$", "poolmaster", ..] => command = poolmaster::config::words::split(head).unwrap().split_off(2),
                _ => panic!("what is {head:?}?"),
            }
        }
        let mut binary = PathBuf::from(env!("CARGO_BIN_EXE_poolmaster"));
        if let Some(uid) = user {
            // Where that user can get at it.
            binary = root.join("run/poolmaster");
            fs::copy(env!("CARGO_BIN_EXE_poolmaster"), &binary).unwrap();
            std::os::unix::fs::chown(root.join("run"), Some(uid), Some(uid)).unwrap();
        }
        let mut child = Command::new(binary);
        if let Some(uid) = user {
            child.uid(uid).gid(uid);
        }
        let out = child
            .args(command)
            .current_dir(root)
            .env_clear()
            .env("PATH", root.join("bin"))
            .env("POOLMASTER_RUNTIME_DIR", root.join("run"))
            .env("COLUMNS", "96")
            .envs(env)
            .output()
            .unwrap();
        let folder = root.file_name().unwrap().to_str().unwrap();
        let instance = folder.to_ascii_lowercase();
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap().replace(root.to_str().unwrap(), SHOWN);
            text.replace(folder, "site").replace(&instance, "site")
        };
        let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
        let mut said = format!("== exit {}\n", out.status.code().map_or("by a signal".to_owned(), |code| code.to_string()));
        if !stdout.is_empty() {
            said.push_str(&format!("== stdout\n{stdout}"));
        }
        if !stderr.is_empty() {
            said.push_str(&format!("== stderr\n{stderr}"));
        }
        said
    }
}

fn octal(mode: &str) -> u32 {
    u32::from_str_radix(mode, 8).unwrap()
}

fn file(path: &Path, body: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, body).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
}

fn program(path: &Path, body: &str, mode: u32) {
    file(path, body);
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn folder(path: &Path, mode: u32) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}
