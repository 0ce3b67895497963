//! What the master made once and needs for its whole life: folders, sockets and files that are full or taken away.

use std::ffi::CString;
use std::io;

use super::support::*;

/// A mount namespace of its own, with a /dev/shm that takes so many files.
fn small_memory(inodes: u32) -> impl FnMut() -> io::Result<()> + Send + Sync + 'static {
    let options = CString::new(format!("size=1m,nr_inodes={inodes}")).unwrap();
    move || {
        let check = |n: i32| if n == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
        // SAFETY: system calls only, on constants.
        unsafe {
            check(libc::unshare(libc::CLONE_NEWNS))?;
            check(libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ))?;
            check(libc::mount(c"tmpfs".as_ptr(), c"/dev/shm".as_ptr(), c"tmpfs".as_ptr(), 0, options.as_ptr().cast()))
        }
    }
}

fn may_mount(test: &str) -> bool {
    let can = is_root() && output_of("unshare", &["--mount", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]).is_ok();
    let temporary = std::env::temp_dir();
    let on_disk =
        output_of("stat", &["-f", "-c", "%T", &temporary.display().to_string()]).is_ok_and(|kind| kind.trim() != "tmpfs");
    if !can || !on_disk {
        skip(test, "needs root that may mount, and a temporary folder on a disk");
    }
    can && on_disk
}

#[test]
fn a_full_memory_is_no_reason_not_to_start_workers() {
    if !may_mount("a_full_memory_is_no_reason_not_to_start_workers") {
        return;
    }
    for inodes in [2, 5, 7] {
        let pools = "[pool.a]\ncommand = \"POOLMASTER worker\"\nworkers = 4\nready = \"notify\"\nsettle = \"20ms\"\n[pool.b]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\n";
        let mut m = setup(pools).pre_exec(small_memory(inodes)).start().ready();
        assert_eq!(m.pids("a").len(), 4, "{inodes} files");
        let told = m.log.text();
        // With two, not even the folder can be made: then it is the disk from the start.
        assert!(inodes == 2 || (told.contains("/dev/shm") && told.contains("instead")), "{inodes} files: {told}");
        // Replacements too, and it is told once only.
        kill(m.pids("a")[0], libc::SIGKILL);
        m.ok(&["restart", "a"]);
        assert!(m.log.count("are made in") <= 4, "{}", m.log.text());
        assert_eq!(m.stop(), 0);
        m.assert_nothing_left();
    }
}
