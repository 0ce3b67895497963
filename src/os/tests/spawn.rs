//! A spawned program: what it finds, how a failed start is told, which signals reach it.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use super::support::{Killed, available, c, ended, in_own_process, outcome, output, plan, refused, shell};
use crate::os::io::{pipe_cloexec, set_nonblocking};
use crate::os::reap::RawStatus;
use crate::os::signals::{self, block_all, ignored_at_start};
use crate::os::spawn::{ExecState, Plan, Resource, Source, SpawnFailure, Step, spawn};

fn failure(step: Step, errno: i32) -> SpawnFailure {
    SpawnFailure { step, errno }
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim_start_matches(':').trim()
}

#[test]
fn mask_and_dispositions_are_the_default_ones() {
    let ignored = ignored_at_start();
    let saved = block_all();
    let mut plan = plan(&["cat", "/proc/self/status"]);
    plan.reset_signals = &ignored;
    let status = output(&mut plan);
    saved.restore();
    for name in ["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"] {
        assert_eq!(u64::from_str_radix(field(&status, name), 16).unwrap(), 0, "{name}\n{status}");
    }
}

#[test]
fn only_the_expected_descriptors_are_there() {
    let (a, b) = pipe_cloexec().unwrap();
    let mut plan = plan(&["ls", "/proc/self/fd"]);
    plan.fds = vec![b.as_fd(), a.as_fd()];
    let listed = output(&mut plan);
    // The last one is the directory that ls reads.
    assert_eq!(listed.split_ascii_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn it_leads_its_own_session_and_group() {
    let (_hold, w) = pipe_cloexec().unwrap();
    let mut plan = plan(&["cat"]);
    plan.stdin = Source::Fd(_hold.as_fd());
    let child = spawn(&plan).unwrap();
    let _killed = Killed(child.pid);
    outcome(&child).unwrap();
    let pid = u64::try_from(child.pid).ok();
    assert_eq!(crate::os::procfs::stat_field(child.pid, 5), pid, "group");
    assert_eq!(crate::os::procfs::stat_field(child.pid, 6), pid, "session");
    assert!(signals::group_exists(child.pid));
    drop(w);
}

#[test]
fn pid_variables_name_the_child_itself() {
    let mut plan = shell("echo $LISTEN_PID $WATCHDOG_PID $$");
    (plan.listen_pid, plan.watchdog_pid) = (true, true);
    let text = output(&mut plan);
    let pids: Vec<&str> = text.split_ascii_whitespace().collect();
    assert!(pids.len() == 3 && pids.iter().all(|p| *p == pids[2]), "{text}");
    let mut plan = shell("env | grep -c _PID= || true");
    assert_eq!(output(&mut plan).trim(), "0");
}

#[test]
fn the_working_directory_is_as_planned() {
    let mut plan = shell("pwd");
    plan.working_dir = Some(c("/usr"));
    assert_eq!(output(&mut plan), "/usr\n");
}

#[test]
fn environment_and_arguments_are_exactly_those_given() {
    let mut plan = plan(&["env"]);
    plan.env = vec![c("A=1"), c("B=two words")];
    assert_eq!(output(&mut plan), "A=1\nB=two words\n");
    let mut plan = Plan { argv: vec![c("other-name"), c("-c"), c("echo $0 $#")], ..shell("") };
    assert_eq!(output(&mut plan), "other-name 0\n");
}

#[test]
fn stderr_may_follow_stdout_and_the_other_way_round() {
    let mut both = shell("echo out; echo err >&2");
    both.stderr = Source::SameAsStdout;
    assert_eq!(output(&mut both), "out\nerr\n");
    // stdout follows stderr, which is a pipe.
    let (r, w) = pipe_cloexec().unwrap();
    let mut plan = shell("echo out; echo err >&2");
    (plan.stdout, plan.stderr) = (Source::SameAsStderr, Source::Fd(w.as_fd()));
    let child = spawn(&plan).unwrap();
    drop(w);
    assert_eq!(super::support::read_to_end(r), "out\nerr\n");
    ended(child.pid);
}

#[test]
fn stdin_is_at_its_end() {
    assert_eq!(output(&mut shell("cat; readlink /proc/self/fd/0")), "/dev/null\n");
}

#[test]
fn a_descriptor_may_have_a_number_far_above_and_nothing_lies_between() {
    let (r, w) = pipe_cloexec().unwrap();
    let (other, _held) = pipe_cloexec().unwrap();
    let mut plan = shell("echo ready >&9; exec 9>&-; ls /proc/self/fd");
    plan.fds = vec![other.as_fd()];
    plan.placed = vec![(w.as_fd(), 9)];
    // One is for the reading of the directory itself.
    assert_eq!(output(&mut plan).split_ascii_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3", "4"]);
    drop(w);
    assert_eq!(super::support::read_to_end(r), "ready\n");
}

#[test]
fn descriptors_are_passed_in_any_order() {
    in_own_process("fds_shuffled_through_occupied_places");
}

#[test]
fn descriptors_may_lie_below_the_launch_pad() {
    in_own_process("descriptors_below_the_launch_pad_reach_the_child");
}

#[test]
fn a_sandbox_may_forbid_to_split_the_table_of_descriptors() {
    in_own_process("spawning_where_no_table_can_be_split");
}

#[test]
fn starts_are_told_rightly_in_a_storm() {
    in_own_process("starts_in_a_storm");
}

#[test]
fn one_descriptor_may_be_passed_twice() {
    let (r, w) = pipe_cloexec().unwrap();
    let mut plan = shell("echo 3 >&3; echo 4 >&4");
    plan.fds = vec![w.as_fd(), w.as_fd()];
    let child = spawn(&plan).unwrap();
    drop(w);
    assert_eq!(super::support::read_to_end(r), "3\n4\n");
    ended(child.pid);
}

#[test]
fn a_missing_program_is_told_exactly() {
    assert_eq!(refused(&plan(&["/nonexistent/program"])), failure(Step::Exec, libc::ENOENT));
    assert_eq!(refused(&plan(&["/etc/passwd/program"])), failure(Step::Exec, libc::ENOTDIR));
    let nothing = Plan::new(Vec::new(), vec![c("x")], Vec::new());
    assert_eq!(spawn(&nothing).unwrap_err(), failure(Step::Exec, libc::ENOENT));
}

/// A file with this line, by another process: a child of another test would hold our writing end, and no such file is executed.
fn written(path: &std::path::Path, line: &str) {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "printf '%s\\n' \"$1\" > \"$2\"", "sh", line]).arg(path);
    assert!(shell.status().unwrap().success());
}

#[test]
fn a_file_that_cannot_be_executed_is_told_exactly() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("text");
    written(&file, "no program");
    let path = file.to_str().unwrap();
    assert_eq!(refused(&plan(&[path])), failure(Step::Exec, libc::EACCES));
    // Seen on the way, it outweighs what comes after.
    let mut several = plan(&[path]);
    several.programs.push(c("/nonexistent/text"));
    assert_eq!(refused(&several), failure(Step::Exec, libc::EACCES));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(refused(&plan(&[path])), failure(Step::Exec, libc::ENOEXEC));
    let no_interpreter = temp.path().join("script");
    written(&no_interpreter, "#!/nonexistent/interpreter");
    fs::set_permissions(&no_interpreter, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(refused(&plan(&[no_interpreter.to_str().unwrap()])), failure(Step::Exec, libc::ENOENT));
}

#[test]
fn later_candidates_are_tried() {
    let mut plan = shell("echo found");
    plan.programs.insert(0, c("/nonexistent/sh"));
    plan.programs.insert(1, c("/etc/passwd/sh"));
    assert_eq!(output(&mut plan), "found\n");
}

#[test]
fn a_bad_directory_and_a_bad_limit_are_told_exactly() {
    let mut lost = shell("true");
    lost.working_dir = Some(c("/nonexistent"));
    assert_eq!(refused(&lost), failure(Step::WorkingDirectory, libc::ENOENT));
    lost.working_dir = Some(c("/etc/passwd"));
    assert_eq!(refused(&lost), failure(Step::WorkingDirectory, libc::ENOTDIR));
    let mut upside_down = shell("true");
    upside_down.identity.limits = vec![(Resource::OpenFiles, 200, 100)];
    assert_eq!(refused(&upside_down), failure(Step::Limits, libc::EINVAL));
    let mut strange = shell("true");
    strange.reset_signals = &[libc::SIGKILL];
    assert_eq!(refused(&strange), failure(Step::Signals, libc::EINVAL));
    let mut no_signal = shell("true");
    no_signal.death_signal = Some(1000);
    assert_eq!(refused(&no_signal), failure(Step::DeathSignal, libc::EINVAL));
}

#[test]
fn the_report_does_not_wait() {
    // A FIFO without a writer: the shell's open, not ours, hangs; and the exec is told long before the program ends.
    let (r, _w) = pipe_cloexec().unwrap();
    set_nonblocking(&r, false).unwrap();
    let mut plan = plan(&["cat"]);
    plan.stdin = Source::Fd(r.as_fd());
    let child = spawn(&plan).unwrap();
    let _killed = Killed(child.pid);
    assert!(matches!(child.exec.poll(), ExecState::Pending | ExecState::Running));
    assert_eq!(outcome(&child), Ok(()));
}

#[test]
fn a_term_right_after_the_fork_is_not_swallowed() {
    let ignored = ignored_at_start();
    for _ in 0..50 {
        let mut plan = plan(&["sleep", "1000"]);
        plan.reset_signals = &ignored;
        let child = spawn(&plan).unwrap();
        signals::kill_worker(child.pid, libc::SIGTERM).unwrap();
        assert_eq!(ended(child.pid).status, RawStatus::Signaled { signal: libc::SIGTERM, core: false });
    }
}

#[test]
fn death_by_every_kind_of_signal_is_decoded() {
    for signal in [libc::SIGKILL, libc::SIGRTMIN(), libc::SIGRTMIN() + 7, libc::SIGRTMAX()] {
        let child = spawn(&plan(&["sleep", "1000"])).unwrap();
        signals::kill(child.pid, signal).unwrap();
        assert_eq!(ended(child.pid).status, RawStatus::Signaled { signal, core: false });
    }
}

#[test]
fn exit_codes_and_usage_are_told() {
    let child = spawn(&shell("exit 42")).unwrap();
    let reaped = ended(child.pid);
    assert_eq!((reaped.pid, reaped.status), (child.pid, RawStatus::Exited(42)));
    assert!(reaped.usage.maxrss_kb > 100, "{:?}", reaped.usage);
}

#[test]
fn the_core_bit_is_told_apart() {
    let none = spawn(&shell("ulimit -c 0; kill -ABRT $$")).unwrap();
    assert_eq!(ended(none.pid).status, RawStatus::Signaled { signal: libc::SIGABRT, core: false });
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.starts_with(['|', '/', '@', '\n']) || pattern.is_empty() {
        eprintln!("skipped: cores do not go to the working directory here ({})", pattern.trim());
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let mut plan = shell("ulimit -c unlimited || exit 9; kill -ABRT $$");
    plan.working_dir = Some(c(temp.path().to_str().unwrap()));
    match ended(spawn(&plan).unwrap().pid).status {
        RawStatus::Exited(9) => eprintln!("skipped: cores are limited to nothing here"),
        status => assert_eq!(status, RawStatus::Signaled { signal: libc::SIGABRT, core: true }),
    }
}

#[test]
fn a_child_gets_its_death_signal_when_the_forking_thread_ends() {
    let child = std::thread::spawn(|| {
        let mut plan = plan(&["sleep", "1000"]);
        plan.death_signal = Some(libc::SIGTERM);
        let child = spawn(&plan).unwrap();
        outcome(&child).unwrap();
        child
    });
    let pid = child.join().unwrap().pid;
    assert_eq!(ended(pid).status, RawStatus::Signaled { signal: libc::SIGTERM, core: false });
}

#[test]
fn many_children_started_at_once_from_many_threads_all_run() {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    assert!(output(&mut shell("echo $$")).trim().parse::<i32>().is_ok());
                }
            });
        }
    });
}

#[test]
fn strangers_orphaned_to_us_are_reaped() {
    in_own_process("orphans_come_to_the_subreaper");
}

#[test]
fn a_real_worker_reads_its_environment() {
    if !available("python3") {
        return;
    }
    let (_r, w) = pipe_cloexec().unwrap();
    let mut plan = plan(&["python3", "-c", "import os; os.fstat(3); print(int(os.environ['LISTEN_PID']) == os.getpid())"]);
    plan.listen_pid = true;
    plan.fds = vec![w.as_fd()];
    assert_eq!(output(&mut plan), "True\n");
}
