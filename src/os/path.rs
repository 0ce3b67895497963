//! Owns where a program is looked for. Refuses to look: execve itself decides among the candidates, in the child, in the
//! worker's own directory and as its own user.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What execvp(3) searches when PATH is not set.
pub const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The paths to try for `program`, in order. A name with a slash is itself the only one, relative to the worker's working
/// directory. Relative and empty entries of PATH count from `cwd` when it is given, else from the worker's working directory.
/// Nothing can be tried for an empty name or one with a NUL byte: no candidates, which [`crate::os::spawn::spawn`] reports as "not found".
pub fn candidates(program: &str, path_var: Option<&str>, cwd: Option<&Path>) -> Vec<CString> {
    if program.is_empty() {
        return Vec::new();
    }
    if program.contains('/') {
        return CString::new(program).into_iter().collect();
    }
    let path = path_var.unwrap_or(DEFAULT_PATH);
    let candidate = |entry: &str| {
        let entry = if entry.is_empty() { "." } else { entry };
        let whole = match cwd {
            Some(cwd) => cwd.join(entry).join(program),
            None => Path::new(entry).join(program),
        };
        CString::new(whole.as_os_str().as_bytes()).ok()
    };
    path.split(':').filter_map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(program: &str, path: Option<&str>, cwd: Option<&str>) -> Vec<String> {
        candidates(program, path, cwd.map(Path::new)).into_iter().map(|c| c.into_string().unwrap()).collect()
    }

    #[test]
    fn the_path_is_searched_in_order() {
        assert_eq!(tried("sh", Some("/usr/bin:/bin"), None), ["/usr/bin/sh", "/bin/sh"]);
        assert_eq!(tried("sh", None, None), ["/bin/sh", "/usr/bin/sh"]);
    }

    #[test]
    fn a_slash_means_no_search() {
        assert_eq!(tried("./server", Some("/bin"), Some("/srv")), ["./server"]);
        assert_eq!(tried("/opt/x", None, None), ["/opt/x"]);
    }

    #[test]
    fn empty_and_relative_entries_are_directories_too() {
        assert_eq!(tried("x", Some(":/bin:tools"), Some("/srv")), ["/srv/./x", "/bin/x", "/srv/tools/x"]);
        assert_eq!(tried("x", Some(""), None), ["./x"]);
    }

    #[test]
    fn nonsense_has_no_candidates() {
        assert!(tried("", Some("/bin"), None).is_empty());
        assert!(candidates("a\0b", Some("/bin"), None).is_empty());
        assert!(candidates("a/\0b", Some("/bin"), None).is_empty());
    }
}
