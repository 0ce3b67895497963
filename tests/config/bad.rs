//! Wrong configs, each with everything that is said about it. `BLESS=1` rewrites the snapshots; read them before committing.
//! A line `#: env NAME=VALUE` or `#: set KEY=VALUE` in a file adds to the other layers.

use std::fs;
use std::path::Path;

use super::sources;
use poolmaster::config::load;

#[test]
fn every_wrong_config_is_reported_as_its_snapshot_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/bad");
    let bless = option_env_set("BLESS");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the folder of wrong configs")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml" || e == "json"))
        .collect();
    files.sort();
    assert!(files.len() >= 30, "{} wrong configs", files.len());
    let mut different = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("a wrong config");
        let extra = |kind: &str| {
            text.lines().filter_map(|l| l.strip_prefix(&format!("#: {kind} ")).map(str::to_owned)).collect::<Vec<_>>()
        };
        let env: Vec<(String, String)> = extra("env")
            .iter()
            .map(|l| l.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned())).expect("NAME=VALUE"))
            .collect();
        let set = extra("set");
        let mut sources = sources(&text, &[], &set.iter().map(String::as_str).collect::<Vec<_>>());
        sources.env = env;
        sources.path = file.file_name().map(Into::into);
        let Err(diags) = load(&sources) else { panic!("{} was accepted", file.display()) };
        assert!(diags.failed());
        let said = diags.to_string();
        // A path is not broken.
        let fits = |line: &str| line.chars().count() <= 100 || line.split_whitespace().any(|word| word.len() > 80);
        assert!(said.lines().all(fits), "{} has lines beyond 100 columns:\n{said}", file.display());
        let snapshot = file.with_extension("txt");
        if bless {
            fs::write(&snapshot, &said).expect("a snapshot");
        } else if fs::read_to_string(&snapshot).ok().as_deref() != Some(&said) {
            different.push(format!("{}:\n{said}", file.display()));
        }
    }
    assert!(different.is_empty(), "differ from their snapshots (BLESS=1 rewrites them):\n\n{}", different.join("\n\n"));
}

#[expect(clippy::disallowed_methods, reason = "a test's own switch")]
fn option_env_set(name: &str) -> bool {
    std::env::var_os(name).is_some()
}
