//! Owns the way from a key of a loaded config back to the place where it was given, for whoever finds something wrong with it later.

use super::Loaded;
use super::node::{Layer, Node, Place, Raw};

impl Loaded {
    /// Where a key was given: `["pool", "web", "working_dir"]`. Of one that was not, or that is a built-in default, the place of what is
    /// around it: its table, its pool.
    pub fn place(&self, path: &[&str]) -> Place {
        let (tree, rest) = self.tree(path);
        let Some(tree) = tree else { return Place::BUILT_IN };
        let given = |node: &Node| node.place.layer > Layer::BuiltIn;
        match tree.find(rest) {
            Some(node) if given(node) => node.place.clone(),
            _ => {
                let around = (1..rest.len()).rev().find_map(|n| tree.find(&rest[..n]).filter(|node| given(node)));
                around.unwrap_or(tree).key.clone()
            }
        }
    }

    /// The place of an item of a list; of a value that is no list, its own.
    pub fn item_place(&self, path: &[&str], item: usize) -> Place {
        let (tree, rest) = self.tree(path);
        match tree.and_then(|tree| tree.find(rest)).map(|node| &node.raw) {
            Some(Raw::List(items)) if items.len() > item => items[item].place.clone(),
            _ => self.place(path),
        }
    }

    /// Something above the built-in defaults gives the key.
    pub fn is_given(&self, path: &[&str]) -> bool {
        let (tree, rest) = self.tree(path);
        tree.and_then(|tree| tree.find(rest)).is_some_and(|node| node.place.layer > Layer::BuiltIn)
    }

    fn tree<'p>(&self, path: &'p [&'p str]) -> (Option<&Node>, &'p [&'p str]) {
        match path {
            ["master", rest @ ..] => (Some(&self.trees.master), rest),
            ["pool", name, rest @ ..] => (self.trees.pools.iter().find(|(n, _)| n == name).map(|(_, tree)| tree), rest),
            _ => (None, path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, explain};

    #[test]
    fn keys_lead_to_their_places() {
        let text =
            "[pool.a]\ncommand = [\"x\", \"y\"]\n[pool.a.listen.http]\naddress = \":80\"\n[defaults]\nworking_dir = \"/\"\n";
        let loaded = explain(&Sources { text: Some(text.to_owned()), ..Sources::default() }).expect("valid");
        for (path, want) in [
            (&["pool", "a", "command"][..], "(text):2:11"),
            (&["pool", "a", "working_dir"], "(text):6:15"),
            (&["pool", "a", "listen", "http", "address"], "(text):4:11"),
            (&["pool", "a", "listen", "http", "backlog"], "(text):3:16"),
            (&["pool", "a", "stop_signal"], "(text):1:7"),
            (&["pool", "b", "command"], "built-in default"),
            (&["master", "pidfile"], "built-in default"),
        ] {
            assert_eq!(loaded.place(path).words(), want, "{path:?}");
        }
        assert_eq!(loaded.item_place(&["pool", "a", "command"], 1).words(), "(text):2:17");
        assert_eq!(loaded.item_place(&["pool", "a", "command"], 9).words(), "(text):2:11");
        assert!(loaded.is_given(&["pool", "a", "working_dir"]) && !loaded.is_given(&["pool", "a", "stop_signal"]));
    }
}
