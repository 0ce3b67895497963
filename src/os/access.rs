//! Owns the question "could that user get at this file?", asked of the mode bits along its path. Access lists and capabilities may grant
//! more than the bits do: for another user than our own the answer is a good guess.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A user with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// User.
    pub uid: u32,
    /// Groups, the primary one among them.
    pub groups: Vec<u32>,
}

/// What is wanted of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// To read it.
    Read,
    /// To execute it, or to go through a folder.
    Execute,
}

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// This does not exist: the file itself, or the first folder on the way that is missing.
    Missing(PathBuf),
    /// Something on the way is no folder.
    NoFolder(PathBuf),
    /// This folder on the way, with its mode, does not let the user through.
    Closed(PathBuf, u32),
    /// The file's own mode does not permit it.
    Forbidden(u32),
    /// The kernel said so.
    Kernel(String),
}

impl Who {
    /// This process.
    pub fn me() -> Who {
        let groups = nix::unistd::getgroups().unwrap_or_default().into_iter().map(nix::unistd::Gid::as_raw);
        let own = super::process::effective_gid();
        Who { uid: super::process::effective_uid(), groups: groups.chain([own]).collect() }
    }

    /// May this user do it to a file of that kind, owner and mode?
    fn may(&self, want: Want, meta: &Metadata) -> bool {
        let mode = meta.permissions().mode();
        let bit = match want {
            Want::Read => 0o4,
            Want::Execute => 0o1,
        };
        if self.uid == 0 {
            return want == Want::Read || meta.is_dir() || mode & 0o111 != 0;
        }
        let shift = if meta.uid() == self.uid {
            6
        } else if self.groups.contains(&meta.gid()) {
            3
        } else {
            0
        };
        mode >> shift & bit != 0
    }
}

/// What is at the path, when `who` can get there and do what it wants with it.
pub fn reach(path: &Path, who: &Who, want: Want) -> Result<Metadata, Obstacle> {
    let meta = fs::metadata(path).map_err(|e| obstacle(path, &e))?;
    // By the name that was given, and by the one that its links lead to.
    let real = fs::canonicalize(path).unwrap_or_default();
    for folder in path.ancestors().skip(1).chain(real.ancestors().skip(1)) {
        if let Ok(meta) = fs::metadata(folder)
            && !who.may(Want::Execute, &meta)
        {
            return Err(Obstacle::Closed(folder.to_owned(), meta.permissions().mode() & 0o7777));
        }
    }
    match who.may(want, &meta) {
        true => Ok(meta),
        false => Err(Obstacle::Forbidden(meta.permissions().mode() & 0o7777)),
    }
}

fn obstacle(path: &Path, e: &io::Error) -> Obstacle {
    // The outermost one that is not there is what has to be made.
    let missing = || path.ancestors().filter(|p| fs::symlink_metadata(p).is_err()).last().unwrap_or(path).to_owned();
    match e.kind() {
        // A link whose target is missing is there itself.
        io::ErrorKind::NotFound => Obstacle::Missing(missing()),
        io::ErrorKind::NotADirectory => {
            let file = path.ancestors().find(|p| fs::metadata(p).is_ok_and(|m| !m.is_dir()));
            Obstacle::NoFolder(file.unwrap_or(path).to_owned())
        }
        _ => Obstacle::Kernel(e.raw_os_error().map_or_else(|| e.to_string(), super::words)),
    }
}

/// The first bytes of a file, at most `most`; `None`: it cannot be read.
pub fn head(path: &Path, most: u64) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    // A FIFO would wait for its writer.
    fs::metadata(path).ok().filter(Metadata::is_file)?;
    fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        for (name, mode) in [("open", 0o755), ("closed", 0o700)] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("run"), "#!/bin/sh\n").unwrap();
            fs::set_permissions(dir.path().join(name).join("run"), Permissions::from_mode(0o750)).unwrap();
            fs::set_permissions(dir.path().join(name), Permissions::from_mode(mode)).unwrap();
        }
        dir
    }

    #[test]
    fn mode_bits_are_asked_along_the_path() {
        let dir = tree();
        let owner = fs::metadata(dir.path()).unwrap();
        let root = Who { uid: 0, groups: vec![0] };
        let member = Who { uid: 54_321, groups: vec![owner.gid()] };
        let stranger = Who { uid: 54_321, groups: vec![54_321] };
        let ask = |name: &str, who: &Who| reach(&dir.path().join(name), who, Want::Execute).map(drop);
        assert_eq!(ask("open/run", &root), Ok(()));
        assert_eq!(ask("open/run", &member), Ok(()));
        assert_eq!(ask("open/run", &stranger), Err(Obstacle::Forbidden(0o750)));
        assert_eq!(ask("closed/run", &member), Err(Obstacle::Closed(dir.path().join("closed"), 0o700)));
        assert_eq!(ask("open", &stranger), Ok(()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tree();
        let ask = |name: &str| reach(&dir.path().join(name), &Who::me(), Want::Read).map(drop);
        assert_eq!(ask("open/x/y/z"), Err(Obstacle::Missing(dir.path().join("open/x"))));
        assert_eq!(ask("open/x"), Err(Obstacle::Missing(dir.path().join("open/x"))));
        assert_eq!(ask("open/run/x"), Err(Obstacle::NoFolder(dir.path().join("open/run"))));
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        assert_eq!(ask("link"), Err(Obstacle::Missing(dir.path().join("link"))));
    }
}
