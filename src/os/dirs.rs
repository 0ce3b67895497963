//! Owns the directories our sockets lie in: made with the right mode and owner, or checked to be nobody else's. Refuses to repair a
//! directory that it did not make: what is wrong with it is said in words.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::entry::{self, Entry, Last};
use super::errno::{check, words};
pub use super::socket_file::FileId;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the directory {}: {cause}; {advice}", path.display())]
pub struct DirError {
    /// The directory.
    pub path: PathBuf,
    /// What is wrong, in words.
    pub cause: String,
    /// What to do about it.
    pub advice: String,
    /// The error number, where the kernel gave one.
    pub errno: Option<i32>,
}

fn kernel(path: &Path, attempt: &str, e: &io::Error) -> DirError {
    let errno = e.raw_os_error();
    let advice = match errno {
        Some(libc::ENOENT) => "make the directory above it first",
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => "name another one, or change who may write there",
        Some(libc::ELOOP | libc::ENOTDIR) => "a real directory is needed there: remove what is, or name another one",
        _ => "name another one",
    };
    let cause = format!("cannot {attempt}: {}", errno.map_or_else(|| e.to_string(), words));
    DirError { path: path.to_owned(), cause, advice: advice.to_owned(), errno }
}

/// Makes the directory with exactly this mode, owned by `uid`; or, when it exists, checks that it is a real directory, owned by `uid`
/// or root, that others cannot write to. The directory above it has to exist. Gives
/// which it is, and whether it was made.
pub fn ensure_dir(path: &Path, mode: u32, uid: u32) -> Result<(FileId, bool), DirError> {
    let (dir, made) = make(path)?;
    if made {
        set_up(&dir, mode, uid).map_err(|e| kernel(path, "set its mode and owner", &e))?;
    } else {
        inspect(path, &dir, uid)?;
    }
    Ok((FileId::of_open(&dir).map_err(|e| kernel(path, "look at it", &e))?, made))
}

/// 0700 at first: nobody gets in before mode and owner are as wanted. True: it was not there before.
fn make(path: &Path) -> Result<(File, bool), DirError> {
    let entry = Entry::at(path, Last::Keep).map_err(|e| kernel(path, "reach it", &e))?;
    let made = match entry.make_folder(0o700) {
        Ok(()) => true,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
        Err(e) => return Err(kernel(path, "make it", &e)),
    };
    // By descriptor from here on: what is checked is what was opened.
    let dir = entry.open(OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0).map_err(|e| kernel(path, "open it", &e))?;
    Ok((dir, made))
}

/// Lets everybody see what is in a directory, if it is this user's. Gives the mode that it had, where that was another.
pub fn let_look(path: &Path, uid: u32) -> io::Result<Option<u32>> {
    let dir = Entry::at(path, Last::Follow)?.open(OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)?;
    let metadata = dir.metadata()?;
    let (mode, wanted) = (metadata.mode() & 0o7777, metadata.mode() & 0o7777 | 0o055);
    if metadata.uid() != uid || mode == wanted {
        return Ok(None);
    }
    // SAFETY: sets the mode of an open directory.
    check(unsafe { libc::fchmod(dir.as_raw_fd(), wanted) })?;
    Ok(Some(mode))
}

/// Users beside the owner and the group may not enter it.
pub fn is_closed(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o001 == 0)
}

/// Gives a directory that is this user's this mode.
pub fn set_mode(path: &Path, uid: u32, mode: u32) -> io::Result<()> {
    let dir = Entry::at(path, Last::Follow)?.open(OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)?;
    if dir.metadata()?.uid() != uid {
        return Ok(());
    }
    // SAFETY: sets the mode of an open directory.
    check(unsafe { libc::fchmod(dir.as_raw_fd(), mode) }).map(drop)
}

/// Removes a directory with all that is in it, if it is still that one. False: it is another, or gone.
pub fn remove_tree(path: &Path, id: FileId) -> io::Result<bool> {
    entry::remove_tree(path, id)
}

/// What is at the path: a directory that may be removed as [`remove_tree`] does.
pub fn found(path: &Path) -> io::Result<FileId> {
    Entry::at(path, Last::Keep)?.id()
}

/// Removes a directory that is empty.
pub fn remove_empty(path: &Path) -> io::Result<()> {
    Entry::at(path, Last::Keep)?.remove_folder()
}

/// Makes the directory, or takes the one that is there, with exactly this mode and owner. Only for a name in a directory of our own, where
/// nobody else can put anything.
pub fn ensure_owned(path: &Path, mode: u32, uid: u32) -> Result<(), DirError> {
    let (dir, _) = make(path)?;
    set_up(&dir, mode, uid).map_err(|e| kernel(path, "set its mode and owner", &e))
}

/// Makes the directory with this mode and owner, or leaves the one that is there as it is. As [`ensure_owned`], for names of our own.
pub fn ensure_there(path: &Path, mode: u32, uid: u32) -> Result<(), DirError> {
    match make(path)? {
        (dir, true) => set_up(&dir, mode, uid).map_err(|e| kernel(path, "set its mode and owner", &e)),
        (_, false) => Ok(()),
    }
}

/// Does the directory live in memory (tmpfs or ramfs)? There a new socket costs microseconds, and no full or hung disk can refuse it.
pub fn in_memory(path: &Path) -> bool {
    const RAMFS: libc::c_long = 0x8584_58f6;
    const TMPFS: libc::c_long = 0x0102_1994;
    nix::sys::statfs::statfs(path).is_ok_and(|fs| matches!(fs.filesystem_type().0 as libc::c_long, TMPFS | RAMFS))
}

fn set_up(dir: &File, mode: u32, uid: u32) -> io::Result<()> {
    if dir.metadata()?.uid() != uid {
        // SAFETY: changes the owner of an open directory; -1 keeps the group.
        check(unsafe { libc::fchown(dir.as_raw_fd(), uid, u32::MAX) })?;
    }
    // SAFETY: sets the mode of an open directory.
    check(unsafe { libc::fchmod(dir.as_raw_fd(), mode) }).map(drop)
}

fn inspect(path: &Path, dir: &File, uid: u32) -> Result<(), DirError> {
    let wrong = |cause: String, advice: String| DirError { path: path.to_owned(), cause, advice, errno: None };
    let metadata = dir.metadata().map_err(|e| kernel(path, "look at it", &e))?;
    let owner = metadata.uid();
    if owner != uid && owner != 0 {
        let advice = format!("remove it, or give it to uid {uid}");
        return Err(wrong(format!("it belongs to uid {owner}, who could replace what is put there"), advice));
    }
    let mode = metadata.mode();
    let sticky = mode & libc::S_ISVTX != 0;
    // SAFETY: always succeeds.
    let own_group = metadata.gid() == unsafe { libc::getegid() };
    if !sticky && (mode & 0o002 != 0 || (mode & 0o020 != 0 && !own_group)) {
        let who = if mode & 0o002 != 0 { "everyone" } else { "its group" };
        let advice = format!("take that away: chmod go-w {}", path.display());
        return Err(wrong(format!("{who} may write there and replace what is put there"), advice));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn me() -> u32 {
        crate::os::process::effective_uid()
    }

    #[test]
    fn it_is_made_with_the_exact_mode_and_then_accepted() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("run");
        ensure_dir(&dir, 0o711, me()).unwrap();
        assert_eq!(mode_of(&dir), 0o711);
        ensure_dir(&dir, 0o700, me()).unwrap();
        assert_eq!(mode_of(&dir), 0o711, "an existing one is not changed");
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused_unless_sticky() {
        let temp = tempfile::tempdir().unwrap();
        fs::set_permissions(temp.path(), Permissions::from_mode(0o777)).unwrap();
        let text = ensure_dir(temp.path(), 0o700, me()).unwrap_err().to_string();
        assert!(text.contains("everyone may write there and replace what is put there; take that away: chmod go-w"), "{text}");
        fs::set_permissions(temp.path(), Permissions::from_mode(0o1777)).unwrap();
        ensure_dir(temp.path(), 0o700, me()).unwrap();
    }

    #[test]
    fn memory_is_told_from_disk() {
        assert!(!in_memory(Path::new("/proc")) && !in_memory(Path::new("/nowhere/at/all")));
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        assert_eq!(in_memory(Path::new("/dev/shm")), mounts.lines().any(|l| l.contains(" /dev/shm tmpfs ")));
    }

    #[test]
    fn links_files_and_missing_parents_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let (link, file) = (temp.path().join("link"), temp.path().join("file"));
        symlink(temp.path(), &link).unwrap();
        fs::write(&file, "x").unwrap();
        for path in [&link, &file] {
            assert!(ensure_dir(path, 0o700, me()).unwrap_err().to_string().contains("a real directory is needed"));
        }
        let orphan = ensure_dir(&temp.path().join("a/b"), 0o700, me()).unwrap_err();
        assert_eq!(orphan.errno, Some(libc::ENOENT));
        assert_eq!(orphan.advice, "make the directory above it first");
        let readonly = kernel(&link, "set its mode and owner", &io::Error::from_raw_os_error(libc::EROFS)).to_string();
        let want = "cannot set its mode and owner: read-only file system; name another one, or change who may write there";
        assert!(readonly.ends_with(want), "{readonly}");
    }

    #[test]
    fn a_strangers_directory_is_refused() {
        if me() != 0 {
            eprintln!("skipped: only root can make a directory of another user");
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("his");
        ensure_dir(&dir, 0o700, 65534).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().uid(), 65534);
        ensure_dir(&dir, 0o700, 65534).unwrap();
        let text = ensure_dir(&dir, 0o700, 0).unwrap_err().to_string();
        assert!(
            text.ends_with("it belongs to uid 65534, who could replace what is put there; remove it, or give it to uid 0"),
            "{text}"
        );
    }
}
