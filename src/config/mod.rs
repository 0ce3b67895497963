//! Layers of settings, validated into specs that the core and the runtime use.
//!
//! The way of a value: each layer is read into a tree that remembers places ([`node`]); each is judged by itself against the one
//! definition of all keys ([`keys`]); figment lays them over each other (`merge`); the result is built into specs ([`spec`]) and
//! judged as a whole. Everything wrong is reported in one run ([`diagnostics`]).
//!
//! Precedence, weakest first: for a pool, built-in < `[defaults]` < its templates in order < `[pool.NAME]`; within each of these,
//! file < include files < environment < command line. Relative paths are taken from the master's working directory, include
//! patterns from the config's folder.
//!
//! Refuses to know anything of the host but the config files themselves: the rest comes in as [`Facts`].

mod build;
mod check;
mod class;
pub mod diagnostics;
pub mod diff;
pub mod env_file;
mod environment;
mod files;
mod flags;
mod given;
mod json_text;
pub mod keys;
mod kind;
mod later;
mod merge;
mod moves;
mod near;
pub mod node;
pub mod schema;
mod settings;
mod show;
pub mod spec;
pub mod table;
pub mod target;
pub mod template;
mod toml_text;
mod value;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use build::Trees;
use diagnostics::{Diagnostic, Diagnostics};
pub use flags::{Flag, key_path};
use keys::{Found, When};
use kind::Around;
use merge::{Part, Section};
use node::{Node, Place, Raw};
use settings::Settings;
pub use show::{Origin, Setting};
use spec::Config;

/// All that a config is made from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The config file as named by the user; `None`: the usual places are searched, unless there is a `text`.
    pub path: Option<PathBuf>,
    /// The file's text when it is not to be read; `path` is then only its name.
    pub text: Option<String>,
    /// The whole environment of the process.
    pub env: Vec<(String, String)>,
    /// Settings from the command line, in order.
    pub flags: Vec<Flag>,
    /// What is known of the host.
    pub facts: Facts,
}

/// What the config depends on, found out by the caller.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Usable CPUs: affinity and cgroup quota, not the host's cores.
    pub cpus: u32,
    /// The user that the master runs as.
    pub uid: u32,
    /// The master's working directory, absolute.
    pub cwd: PathBuf,
    /// `$POOLMASTER_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
}

/// A config with the origin of every value.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it means.
    pub config: Config,
    /// What is suspicious but no error; `config.warnings` has them as lines.
    pub warnings: Vec<Diagnostic>,
    /// The operators' numbers of workers, by pool, where a running master was asked: the strongest layer, which no file knows.
    pub operators: BTreeMap<String, u32>,
    trees: Trees,
    layers: Layers,
    env: BTreeMap<String, String>,
}

/// The layers as read, strongest last.
#[derive(Clone, Debug)]
struct Layers {
    /// The built-in defaults of the master and of a pool.
    built_in: (Node, Node),
    /// File, include files, environment, flags.
    given: Vec<Node>,
}

/// Reads and validates a config.
pub fn load(sources: &Sources) -> Result<Config, Diagnostics> {
    explain(sources).map(|loaded| loaded.config)
}

/// Reads and validates a config and keeps where everything comes from.
pub fn explain(sources: &Sources) -> Result<Loaded, Diagnostics> {
    match judge(sources) {
        (Some(loaded), diags) if !diags.failed() => Ok(loaded),
        (_, diags) => Err(diags),
    }
}

/// Reads and validates a config, and gives what there is of it also when something is wrong: defaults stand in for what is. `None`: its main
/// file could not be read.
pub fn judge(sources: &Sources) -> (Option<Loaded>, Diagnostics) {
    let mut diags = Diagnostics::default();
    let env: BTreeMap<String, String> = sources.env.iter().cloned().collect();
    let around = Around { env: &env, cwd: &sources.facts.cwd };
    let Read { layers, path, main, complete } = read(sources, &env, &mut diags);
    for root in &layers.given {
        check::layer(root, around, &mut diags);
    }
    if !main || diags.full() {
        // Without the main file everything else would be called incomplete.
        diags.sort();
        return (None, diags);
    }
    if !complete {
        diags.go_on_without_some_text();
    }
    let mut trees = layers.merged(around, &mut diags);
    let mut config = build::config(path, &trees, &sources.facts, around, &mut diags);
    diags.sort();
    let not_yet = later::list(&trees, around);
    if diags.failed() {
        diags.not_yet.clone_from(&not_yet);
    }
    trees.settle(&config);
    let warnings: Vec<Diagnostic> = diags.warnings().cloned().collect();
    config.warnings = warnings.iter().map(Diagnostic::line).collect();
    config.not_yet = not_yet;
    config.settings = Settings::of(&trees, around);
    let mut loaded = Loaded { config, warnings, operators: BTreeMap::new(), trees, layers, env };
    if matches!(loaded.config.master.log.level.as_str(), "debug" | "trace") {
        loaded.config.shown = loaded.show_toml();
    }
    (Some(loaded), diags)
}

/// The control socket and the runtime directory of the master that runs this config. Errors in the pools do not matter: a client has to
/// reach a running master also while its file is being edited.
pub fn places(sources: &Sources) -> Result<(PathBuf, PathBuf), Diagnostics> {
    let mut diags = Diagnostics::default();
    let env: BTreeMap<String, String> = sources.env.iter().cloned().collect();
    let around = Around { env: &env, cwd: &sources.facts.cwd };
    let Read { layers, path, complete, .. } = read(sources, &env, &mut diags);
    if !complete {
        return Err(diags);
    }
    let master = build::master(path.as_deref(), &merge::merge(&layers.of_master()), &sources.facts, around);
    Ok((master.socket, master.runtime_dir))
}

/// All layers, and what of the text could be read.
struct Read {
    layers: Layers,
    path: Option<PathBuf>,
    /// The main file.
    main: bool,
    /// All of it.
    complete: bool,
}

fn read(sources: &Sources, env: &BTreeMap<String, String>, diags: &mut Diagnostics) -> Read {
    let main = files::main_file(sources, diags);
    let environment = environment::layer(&sources.env, diags);
    let flags = flags::layer(&sources.flags, diags);
    // A stronger layer's list of include files replaces the file's.
    let patterns = [Some(&flags), Some(&environment), main.root.as_ref()]
        .into_iter()
        .flatten()
        .find(|root| root.get("include").is_some())
        .map(|root| files::include_patterns(root, env))
        .unwrap_or_default();
    let shown_folder = main.shown.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let (includes, complete) = files::includes(&patterns, main.path.as_deref(), shown_folder, sources, diags);
    let readable = main.root.is_some();

    let mut given: Vec<Node> = main.root.into_iter().collect();
    given.extend(includes);
    given.extend([environment, flags]);
    let layers = Layers { built_in: (built_in("master."), built_in("pool.*.")), given };
    Read { layers, path: main.path, main: readable, complete: complete && readable }
}

/// The defaults of all keys that this version has and that start with `prefix`.
fn built_in(prefix: &str) -> Node {
    let mut root = Node::root(Place::BUILT_IN);
    for key in keys::all().filter(|key| key.when == When::Now) {
        let path = key.path.strip_prefix(prefix).filter(|path| !path.contains('*'));
        if let (Some(path), Some(node)) = (path, build::default_node(key)) {
            root.insert(&path.split('.').map(str::to_owned).collect::<Vec<_>>(), node);
        }
    }
    root
}

/// Reads a value that was given as text, by the type of its key. `None`: it is wrong, and `diags` says so.
fn read_value(path: &[String], text: &str, place: &Place, diags: &mut Diagnostics) -> Option<Raw> {
    let refs: Vec<&str> = path.iter().map(String::as_str).collect();
    let secret = refs.iter().any(|name| name.to_ascii_lowercase().contains("secret"));
    let shown = if secret { "***".to_owned() } else { format!("{text:?}") };
    let mut refused = |why: String, help: String| {
        diags.error(place, format!("{}: {why}", path.join(".")), help);
        None
    };
    let table = text.trim_start().starts_with('{');
    match keys::find(&refs) {
        Found::Table | Found::KeyOrTable(_) if table => match toml_text::value(text.trim(), place) {
            Ok(raw) => Some(raw),
            Err(why) => {
                refused(format!("{shown} is no table in TOML syntax: {why}"), "write it as { key = value, ... }".to_owned())
            }
        },
        Found::Table => refused(format!("takes a table in TOML syntax, found {shown}"), check::table_help(&refs)),
        Found::Key(key) | Found::KeyOrTable(key) => match key.kind.read_text(text, place) {
            Ok(raw) => Some(raw),
            Err(problem) => refused(problem.message, problem.help),
        },
        // The check of the layer says that there is no such key.
        Found::Nothing => Some(Raw::Str(text.to_owned())),
    }
}

impl Layers {
    fn merged(&self, around: Around<'_>, diags: &mut Diagnostics) -> Trees {
        let master = merge::merge(&self.of_master());
        let mut names: Vec<&str> = Vec::new();
        let mut seen = BTreeSet::new();
        for (name, node) in self.given.iter().filter_map(|root| root.get("pool")).flat_map(Node::entries) {
            if matches!(node.raw, Raw::Table(_)) && seen.insert(name.as_str()) {
                names.push(name);
            }
        }
        let pools = names.iter().map(|name| {
            let templates = self.templates_of(name, around);
            for (template, place) in &templates {
                if self.named("template", template).next().is_none() {
                    let all: Vec<&str> = self
                        .given
                        .iter()
                        .filter_map(|root| root.get("template"))
                        .flat_map(Node::entries)
                        .map(|(name, _)| name.as_str())
                        .collect();
                    let help = match near::nearest(template, all.iter().copied()) {
                        Some(near) => format!("did you mean \"{near}\"?"),
                        None if all.is_empty() => format!("define it: [template.{template}]"),
                        None => format!("the templates: {}", all.join(", ")),
                    };
                    let what = format!("pool.{name}.use: there is no template {template:?}");
                    diags.missing(Diagnostic::error(Some(place.clone()), what).help(help));
                }
            }
            let sections: Vec<Section<'_>> = self.of_pool(name, &templates).into_iter().map(|(section, _)| section).collect();
            let mut tree = merge::merge(&sections);
            // The pool's own header is what an error about the whole pool points to.
            if let Some(own) = self.named("pool", name).next() {
                (tree.key, tree.place) = (own.key.clone(), own.place.clone());
            }
            ((*name).to_owned(), tree)
        });
        let pools = pools.collect();
        Trees { master, pools }
    }

    /// The tables `[KIND.NAME]` of all layers, weakest first.
    fn named(&self, kind: &'static str, name: &str) -> impl Iterator<Item = &Node> {
        self.given.iter().filter_map(move |root| root.find(&[kind, name])).filter(|node| matches!(node.raw, Raw::Table(_)))
    }

    fn of_master(&self) -> Vec<Section<'_>> {
        let own = self.given.iter().filter_map(|root| root.get("master")).filter(|node| matches!(node.raw, Raw::Table(_)));
        let built_in = Section { part: Part::BuiltIn, node: &self.built_in.0 };
        std::iter::once(built_in).chain(own.map(|node| Section { part: Part::Own, node })).collect()
    }

    /// All tables that a pool is merged from, weakest first, each with its title.
    fn of_pool<'a>(&'a self, name: &str, templates: &[(String, Place)]) -> Vec<(Section<'a>, String)> {
        let defaults = self.given.iter().filter_map(|root| root.get("defaults")).filter(|node| matches!(node.raw, Raw::Table(_)));
        let mut out = vec![(Section { part: Part::BuiltIn, node: &self.built_in.1 }, String::new())];
        out.extend(defaults.map(|node| (Section { part: Part::Defaults, node }, "[defaults]".to_owned())));
        for ((template, _), number) in templates.iter().zip(0..) {
            let title = format!("[template.{template}]");
            out.extend(
                self.named("template", template).map(|node| (Section { part: Part::Template(number), node }, title.clone())),
            );
        }
        out.extend(self.named("pool", name).map(|node| (Section { part: Part::Own, node }, format!("[pool.{name}]"))));
        out.sort_by_key(|(section, _)| section.rank());
        out
    }

    /// The templates a pool uses: its own `use`, else that of `[defaults]`.
    fn templates_of(&self, pool: &str, around: Around<'_>) -> Vec<(String, Place)> {
        let mut tables: Vec<&Node> = self.given.iter().filter_map(|root| root.get("defaults")).collect();
        tables.extend(self.named("pool", pool));
        let Some(node) = tables.into_iter().rev().find_map(|table| table.get("use")) else { return Vec::new() };
        let words = keys::of_pool("use").and_then(|key| key.kind.check(node, around).ok()).map(|checked| checked.value);
        let (Some(kind::Typed::Words(words)), Raw::List(items)) = (words, &node.raw) else { return Vec::new() };
        words.into_iter().zip(items.iter().map(|item| item.place.clone())).collect()
    }
}

impl Loaded {
    /// All tables that the master (`None`) or a pool is merged from, weakest first: part, title, table.
    fn sections(&self, pool: Option<&str>) -> Vec<(Part, String, &Node)> {
        let around = Around { env: &self.env, cwd: Path::new("/") };
        match pool {
            None => self.layers.of_master().into_iter().map(|s| (s.part, "[master]".to_owned(), s.node)).collect(),
            Some(name) => {
                let templates = self.layers.templates_of(name, around);
                self.layers.of_pool(name, &templates).into_iter().map(|(s, title)| (s.part, title, s.node)).collect()
            }
        }
    }
}
