//! Owns the question which control socket a config's master has. Reads only the three keys that decide it: a client verb must
//! work beside a config that has errors elsewhere, and within its few milliseconds.

use std::fs;
use std::path::{Path, PathBuf};

use super::Context;
use crate::client::own_runtime_dir;

/// The control socket of the master that runs this config.
pub(super) fn socket_of(config: &Path, ctx: &Context) -> Result<PathBuf, String> {
    let text = fs::read_to_string(config).map_err(|e| e.to_string())?;
    let master = if config.extension().is_some_and(|x| x == "json") { of_json(&text)? } else { of_toml(&text)? };
    let [socket, name, runtime_dir] = master;
    let setting = |key: &str, file: Option<String>| {
        // The environment is a stronger layer than the file (config.md).
        match ctx.var(&format!("POOLMASTER__MASTER__{key}")).map(str::to_owned).or(file) {
            Some(value) if value.contains("${") => {
                Err(format!("master.{} has a variable in it; use --socket", key.to_lowercase()))
            }
            value => Ok(value.filter(|v| !v.is_empty())),
        }
    };
    let config = ctx.cwd.join(config);
    let folder = config.parent().map(Path::to_owned).unwrap_or_default();
    if let Some(socket) = setting("SOCKET", socket)? {
        return Ok(folder.join(socket));
    }
    let dir = match setting("RUNTIME_DIR", runtime_dir)?.or_else(|| ctx.var("POOLMASTER_RUNTIME_DIR").map(str::to_owned)) {
        Some(dir) => folder.join(dir),
        None => own_runtime_dir(nix::unistd::geteuid().as_raw(), ctx.var("XDG_RUNTIME_DIR")),
    };
    let name = match setting("NAME", name)? {
        Some(name) => name,
        None => fs::canonicalize(&folder)
            .ok()
            .and_then(|f| f.file_name().map(|n| n.to_string_lossy().into_owned()))
            .ok_or("master.name is not set, and its folder has no name either; use --socket")?,
    };
    Ok(dir.join(format!("{name}.sock")))
}

const KEYS: [&str; 3] = ["socket", "name", "runtime_dir"];

fn of_toml(text: &str) -> Result<[Option<String>; 3], String> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| format!("it is not TOML: {}", e.message()))?;
    let master = table.get("master");
    Ok(KEYS.map(|key| master.and_then(|m| m.get(key)).and_then(|v| v.as_str()).map(str::to_owned)))
}

fn of_json(text: &str) -> Result<[Option<String>; 3], String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("it is not JSON: {e}"))?;
    Ok(KEYS.map(|key| value["master"][key].as_str().map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &Path, env: &[(&str, &str)]) -> Result<PathBuf, String> {
        let env = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        socket_of(path, &Context { env, cwd: PathBuf::from("/"), tty: false })
    }

    #[test]
    fn the_keys_that_name_the_socket_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let shop = dir.path().join("shop");
        fs::create_dir(&shop).unwrap();
        let run = [("POOLMASTER_RUNTIME_DIR", "/r")];
        for (file, text, env, want) in [
            ("a.toml", "[master]\nsocket = \"/x/s.sock\"", &[][..], "/x/s.sock"),
            ("b.toml", "[master]\nname = \"n\"\nruntime_dir = \"/y\"", &[], "/y/n.sock"),
            ("c.toml", "[pool.web]\ncommand = \"x\"", &run, "/r/shop.sock"),
            ("d.toml", "[master]\nname = \"n\"", &[("POOLMASTER__MASTER__SOCKET", "/e.sock")], "/e.sock"),
            ("e.json", "{\"master\":{\"name\":\"n\"}}", &run, "/r/n.sock"),
        ] {
            fs::write(shop.join(file), text).unwrap();
            assert_eq!(at(&shop.join(file), env), Ok(PathBuf::from(want)), "{file}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.toml");
        assert!(at(&file, &[]).unwrap_err().contains("No such file"));
        fs::write(&file, "[master").unwrap();
        assert!(at(&file, &[]).unwrap_err().contains("not TOML"));
        fs::write(&file, "[master]\nsocket = \"${HOME}/s\"").unwrap();
        assert!(at(&file, &[]).unwrap_err().contains("use --socket"));
    }
}
