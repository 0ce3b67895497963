//! The completion scripts: shells that are here read them, and they know every verb.

use std::io::Write as _;
use std::process::Stdio;

use poolmaster::cli::{self, completions};

use super::man::tool;

#[test]
fn every_script_knows_every_verb_and_its_shell_can_read_it() {
    for name in ["bash", "zsh", "fish", "elvish"] {
        let script = completions::script(name.parse().unwrap());
        for verb in cli::command().get_subcommands() {
            assert!(script.contains(verb.get_name()), "{name}: {} is missing", verb.get_name());
        }
        assert!(script.contains("graceful") || script.contains("runtime-dir"), "{name}: no flags");
        // Elvish has a flag of its own to compile only.
        let flags: &[&str] = if name == "elvish" { &["-compileonly", "/dev/stdin"] } else { &["-n"] };
        let Some(mut shell) = tool(name) else { continue };
        let mut child = shell.args(flags).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What bash offers after these words, with the script loaded.
fn offered(words: &str) -> Option<Vec<String>> {
    let script = completions::script("bash".parse().unwrap());
    let test = format!(
        "{script}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _poolmaster poolmaster \"${{COMP_WORDS[-1]}}\" \
         \"${{COMP_WORDS[-2]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    );
    let output = tool("bash")?.arg("-c").arg(test).output().unwrap();
    Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

#[test]
fn bash_completes_verbs_flags_and_values() {
    for (words, want) in [
        ("poolmaster sc", "scale"),
        ("poolmaster run --on", "--only"),
        ("poolmaster config sch", "schema"),
        ("poolmaster completions ba", "bash"),
    ] {
        let Some(offered) = offered(words) else { return };
        assert_eq!(offered, [want], "{words}");
    }
}
