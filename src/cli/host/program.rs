//! Owns finding the programs that a config asks for, of workers, hooks and probes: in their PATH or at their path, executable by their user, with
//! their interpreters.

use std::path::{Path, PathBuf};

use super::{Found, View};
use crate::config::spec::Look;
use crate::config::template::{self, Vars};
use crate::os::access::{Obstacle, Want, Who, head, reach};
use crate::os::path::{DEFAULT_PATH, candidates};

/// Stands for the running binary itself.
const OWN_NAME: &str = "poolmaster";
/// Words that are no programs, but parts of a shell.
const BUILTINS: [&str; 11] = ["cd", "exec", "export", "source", ".", "ulimit", "umask", "eval", "set", "trap", "if"];
/// As much of a script as the kernel looks at.
const FIRST_LINE: u64 = 256;

/// Where and as whom a program would be executed.
pub(super) struct Runner<'a> {
    pub(super) who: &'a Who,
    /// Its root directory, when it is another.
    pub(super) root: Option<&'a Path>,
    /// Where it starts, as it calls it.
    pub(super) start: PathBuf,
    /// `working_dir`, where it is set.
    pub(super) working_dir: Option<&'a Path>,
    /// ` as the user shop`, when that is not who looks.
    pub(super) as_user: String,
    /// Of whom: `workers'`.
    pub(super) whose: &'static str,
    /// Its PATH; `None`: it has none.
    pub(super) path: Option<&'a str>,
}

impl Runner<'_> {
    /// A path of the program's as it is called outside of its root directory.
    pub(super) fn outside(&self, path: &Path) -> PathBuf {
        match self.root {
            Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }
}

/// All programs that a pool asks for.
pub(super) fn of_pool(view: &View<'_>, path: Option<&str>, found: &mut Found<'_>) {
    let runner = view.runner(path);
    let fds: Vec<(&str, i32)> = view.pool.listeners.iter().map(|l| l.name.as_str()).zip(3..).collect();
    let vars = Vars { pool: view.name(), slot: 0, generation: 1, fds: &fds, cpus: 1, runtime: Path::new("/"), port: Some(1) };
    let hooks = &view.pool.hooks;
    let asked = [
        ("command", &view.pool.launch.argv),
        ("hooks.pre_start", &hooks.pre_start),
        ("hooks.pre_spawn", &hooks.pre_spawn),
        ("hooks.post_spawn", &hooks.post_spawn),
        ("hooks.ready", &hooks.ready),
        ("hooks.pre_stop", &hooks.pre_stop),
        ("hooks.worker_exit", &hooks.worker_exit),
        ("hooks.scaled", &hooks.scaled),
    ];
    let look = match &view.pool.launch.look {
        Some(Look::Command(argv)) => Some(("ready", argv)),
        _ => None,
    };
    for (key, argv) in asked.into_iter().chain(look) {
        let Some(word) = argv.first() else { continue };
        // Its directory is made at the start.
        if template::asked(word).contains(&"runtime") {
            continue;
        }
        let path: Vec<&str> = ["pool", view.name()].into_iter().chain(key.split('.')).collect();
        one(&runner, &path, &template::expand(word, &vars), found);
    }
}

/// Those that the master runs for itself.
pub(super) fn of_master(runner: &Runner<'_>, found: &mut Found<'_>) {
    let hooks = found.loaded.config.master.hooks.clone();
    for (key, argv) in [("starting", hooks.starting), ("ready", hooks.ready), ("reload", hooks.reload), ("exit", hooks.exit)] {
        if let Some(word) = argv.first() {
            one(runner, &["master", "hooks", key], word, found);
        }
    }
}

fn one(runner: &Runner<'_>, key: &[&str], program: &str, found: &mut Found<'_>) {
    if program == OWN_NAME {
        return;
    }
    let problem = match locate(runner, program) {
        Ok(file) => interpreter(runner, &file, 0),
        Err(problem) => Some(problem),
    };
    let Some(Problem { what, help, sure }) = problem else { return };
    let place = found.loaded.item_place(key, 0);
    let message = format!("{}: {what}", key.join("."));
    match sure {
        true => found.error(place, message, help),
        false => found.warn(place, message, help),
    }
}

/// What is wrong with a program.
struct Problem {
    what: String,
    help: String,
    /// No start can succeed.
    sure: bool,
}

fn problem(what: String, help: impl Into<String>) -> Problem {
    Problem { what, help: help.into(), sure: true }
}

/// The file that would be executed, as it is called outside of the workers' root directory.
fn locate(runner: &Runner<'_>, program: &str) -> Result<PathBuf, Problem> {
    let mut refused = None;
    for candidate in candidates(program, runner.path, Some(&runner.start)) {
        let file = PathBuf::from(candidate.to_string_lossy().into_owned());
        // Without its `./`, as people would call it.
        let file = runner.outside(&runner.start.join(file).components().collect::<PathBuf>());
        match executable(runner, &file) {
            Ok(()) => return Ok(file),
            Err(Some(problem)) => refused = refused.or(Some(problem)),
            Err(None) => {}
        }
    }
    Err(refused.unwrap_or_else(|| not_found(runner, program)))
}

fn not_found(runner: &Runner<'_>, program: &str) -> Problem {
    if program.starts_with('~') {
        return problem(
            format!("there is no program {program:?}"),
            "no shell runs that would know whose home that is: write its whole path",
        );
    }
    if program.contains('/') {
        let from = match (program.starts_with('/'), runner.working_dir) {
            (true, _) => "install it, or correct the path".to_owned(),
            (false, Some(dir)) => format!("the path counts from working_dir = {:?}", dir.display().to_string()),
            (false, None) => {
                format!("the path counts from {}, where the master is started; set working_dir", runner.start.display())
            }
        };
        return problem(format!("there is no program {program:?}"), from);
    }
    let what = format!("there is no program {program:?} in the {} PATH", runner.whose);
    if BUILTINS.contains(&program) || program.contains(['|', '&', ';', '<', '>', '$', '`', '*']) {
        return problem(what, "that is a word of shells: if one is meant, command = [\"sh\", \"-c\", \"...\"]");
    }
    let path = runner.path.map_or_else(
        || format!("{DEFAULT_PATH} (PATH is not set)"),
        |p| if p.is_empty() { "empty".to_owned() } else { p.to_owned() },
    );
    problem(what, format!("install it, or write its whole path; PATH is {}", path.replace(':', ", ")))
}

/// `Err(None)`: it is not there.
fn executable(runner: &Runner<'_>, file: &Path) -> Result<(), Option<Problem>> {
    let shown = file.display();
    match reach(file, runner.who, Want::Execute) {
        Ok(meta) if meta.is_dir() => Err(Some(problem(format!("{shown} is a folder"), "name the program in it"))),
        Ok(meta) if !meta.is_file() => Err(Some(problem(format!("{shown} is no regular file"), "name a program"))),
        Ok(_) => Ok(()),
        Err(Obstacle::Missing(_) | Obstacle::NoFolder(_)) => Err(None),
        Err(Obstacle::Forbidden(mode)) if mode & 0o111 == 0 => {
            Err(Some(problem(format!("{shown} is not executable (mode {mode:04o})"), format!("chmod +x {shown}"))))
        }
        Err(Obstacle::Forbidden(mode)) => Err(Some(Problem {
            what: format!("{shown} cannot be executed{} (mode {mode:04o})", runner.as_user),
            help: "change its mode, owner or group".to_owned(),
            sure: false,
        })),
        Err(Obstacle::Closed(folder, mode)) => Err(Some(Problem {
            what: format!("{shown} cannot be reached{}: {} has mode {mode:04o}", runner.as_user, folder.display()),
            help: "let that user through (chmod o+x), or put the program elsewhere".to_owned(),
            sure: false,
        })),
        Err(Obstacle::Kernel(why)) => Err(Some(problem(format!("{shown} cannot be looked at: {why}"), "correct the path"))),
    }
}

/// What is wrong with the first line of a script.
fn interpreter(runner: &Runner<'_>, file: &Path, depth: u32) -> Option<Problem> {
    // Unreadable ones can be executed all the same; and the kernel follows four at most.
    let start = head(file, FIRST_LINE).filter(|_| depth < 4)?;
    let shown = file.display();
    let Some(line) = start.strip_prefix(b"#!") else { return no_program(file, &start) };
    let line = String::from_utf8_lossy(line.split(|b| *b == b'\n').next().unwrap_or_default()).into_owned();
    if line.ends_with('\r') {
        let help = format!("its lines end as on Windows: sed -i 's/\\r$//' {shown}");
        return Some(problem(
            format!("the first line of {shown} ends in a carriage return, which becomes part of its interpreter's name"),
            help,
        ));
    }
    let mut words = line.split_ascii_whitespace();
    let Some(interpreter_name) = words.next() else {
        return Some(problem(format!("the first line of {shown} names no interpreter"), "write #!/bin/sh, for instance"));
    };
    let whose = format!("the interpreter of {shown}");
    let target = runner.outside(&runner.start.join(interpreter_name));
    match executable(runner, &target) {
        Ok(()) => {}
        Err(Some(problem)) => return Some(Problem { what: format!("{whose}: {}", problem.what), ..problem }),
        Err(None) => {
            let help = "install it, or correct the script's first line".to_owned();
            return Some(problem(format!("{whose}, {interpreter_name}, does not exist"), help));
        }
    }
    if !interpreter_name.ends_with("/env") {
        return interpreter(runner, &target, depth + 1);
    }
    // `env -S program arguments`, `env -i A=b program`.
    let program = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    locate(runner, program).err().map(|problem| Problem { what: format!("{whose}: {}", problem.what), ..problem })
}

/// A file that is executable, and nothing that the kernel runs by itself.
fn no_program(file: &Path, start: &[u8]) -> Option<Problem> {
    if start.starts_with(b"\x7fELF") {
        return None;
    }
    let shown = file.display();
    let text = start.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    Some(Problem {
        what: if start.is_empty() {
            format!("{shown} is empty")
        } else {
            format!("{shown} is no program: it begins with neither an ELF header nor #!")
        },
        help: if text {
            "begin a script with #!/bin/sh, or name its interpreter in the command"
        } else {
            "is it for another system?"
        }
        .to_owned(),
        // The host may know further kinds of programs (binfmt_misc).
        sure: text,
    })
}
