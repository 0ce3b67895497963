//! Owns the question where a config's master is found: the same layers as `run` reads, so that both agree.

use std::path::Path;

use super::Context;
use crate::client::Places;
use crate::config::{self, Sources};

/// Where the master that runs this config is found.
pub(super) fn places_of(config: &Path, ctx: &Context) -> Result<Places, String> {
    let sources = Sources { path: Some(ctx.cwd.join(config)), env: ctx.env.clone(), facts: ctx.facts(), ..Sources::default() };
    let (socket, runtime_dir) = config::places(&sources).map_err(|diagnostics| diagnostics.to_string().trim_end().to_owned())?;
    Ok(Places { socket, runtime_dir })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    fn at(path: &Path, env: &[(&str, &str)]) -> Result<PathBuf, String> {
        let env = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        places_of(path, &Context { env, cwd: PathBuf::from("/"), ..Context::default() }).map(|places| places.socket)
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
        assert!(at(&file, &[]).unwrap_err().contains("p.toml"));
        fs::write(&file, "[master").unwrap();
        assert!(at(&file, &[]).unwrap_err().contains("p.toml:1"));
        fs::write(&file, "[master]\nname = \"n\"\nsocket = \"${DIR}/s\"\n[pool.web]\nwrokers = 3").unwrap();
        assert_eq!(at(&file, &[("DIR", "/d")]), Ok(PathBuf::from("/d/s")));
    }
}
