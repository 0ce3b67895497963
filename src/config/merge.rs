//! Owns laying the layers over each other. figment merges (tables merge, lists replace) and tags each value with its provider;
//! the tag leads back to the exact place.

use figment::value::{Dict, Map, Num, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::node::{Layer, Node, Place, Raw};
use super::table::Table;

/// Which part of a layer a section is, weakest first: the order of the variants *is* the precedence for a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The program's own defaults.
    BuiltIn,
    /// `[defaults]`.
    Defaults,
    /// A template; the number is its place in `use`.
    Template(u32),
    /// `[pool.NAME]` or `[master]`.
    Own,
}

/// A table of one layer that takes part in a merge.
#[derive(Clone, Debug)]
pub(super) struct Section<'a> {
    pub(super) part: Part,
    pub(super) node: &'a Node,
}

impl Section<'_> {
    /// A more specific part beats a stronger layer: `[pool.web]` of the file beats `[defaults]` from a flag.
    pub(super) fn rank(&self) -> (Part, Layer) {
        (self.part, self.node.place.layer)
    }
}

/// Provides one section to figment. Its number is its metadata, so that a value's tag leads back to it.
struct Numbered<'a> {
    number: usize,
    section: &'a Section<'a>,
}

impl Provider for Numbered<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::from("section", self.number.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, dict(self.section.node))]))
    }
}

/// Merges sections that are sorted weakest first. Every value of the result has the place of the section that won.
pub(super) fn merge(sections: &[Section<'_>]) -> Node {
    let figment = sections
        .iter()
        .enumerate()
        .fold(Figment::new(), |figment, (number, section)| figment.merge(Numbered { number, section }));
    let merged = figment.data().ok().and_then(|mut profiles| profiles.remove(&Profile::Default)).unwrap_or_default();
    let source = |tag: Tag| -> Option<&Node> {
        let number = figment.get_metadata(tag)?.source.as_ref()?.custom()?.parse::<usize>().ok()?;
        sections.get(number).map(|section| section.node)
    };
    let place = sections.last().map_or(Place::BUILT_IN, |section| section.node.place.clone());
    let mut root = Node { key: place.clone(), place, raw: Raw::Table(Table::default()) };
    root.raw = adopt(&merged, &mut Vec::new(), &source);
    root
}

/// Turns a merged table back into nodes, each taken from the section that its tag names.
fn adopt<'s>(dict: &Dict, path: &mut Vec<String>, source: &dyn Fn(Tag) -> Option<&'s Node>) -> Raw {
    let mut entries = Table::default();
    for (name, value) in dict {
        path.push(name.clone());
        if let Some(origin) = source(value.tag()).and_then(|node| node.find(path)) {
            let node = match value {
                Value::Dict(_, inner) => Node { raw: adopt(inner, path, source), ..origin.clone() },
                _ => origin.clone(),
            };
            entries.push(name.clone(), node);
        }
        path.pop();
    }
    Raw::Table(entries)
}

fn dict(node: &Node) -> Dict {
    node.entries().iter().map(|(name, child)| (name.clone(), value(child))).collect()
}

fn value(node: &Node) -> Value {
    match &node.raw {
        Raw::Bool(b) => Value::Bool(Tag::Default, *b),
        Raw::Int(n) => Value::Num(Tag::Default, Num::I64(*n)),
        Raw::Float(f) => Value::Num(Tag::Default, Num::F64(*f)),
        Raw::Str(s) => Value::String(Tag::Default, s.clone()),
        Raw::Odd(what) => Value::String(Tag::Default, (*what).to_owned()),
        Raw::List(items) => Value::Array(Tag::Default, items.iter().map(value).collect()),
        Raw::Table(_) => Value::Dict(Tag::Default, dict(node)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAYERS: [Layer; 4] = [Layer::File, Layer::Include(0), Layer::Environment, Layer::Flag];

    fn placed(layer: Layer) -> Place {
        Place { layer, ..Place::BUILT_IN }
    }

    /// A section's leaves, as (path, value) with paths of one to three short names.
    fn leaves() -> impl Strategy<Value = Vec<(Vec<String>, i64)>> {
        prop::collection::vec((prop::collection::vec("[ab]", 1..4), 0i64..100), 0..8)
    }

    fn section(leaves: &[(Vec<String>, i64)], layer: Layer) -> Node {
        let mut root = Node::root(placed(layer));
        for (path, n) in leaves {
            root.insert(path, Node { key: placed(layer), place: placed(layer), raw: Raw::Int(*n) });
        }
        root
    }

    /// The rule in its plainest form: lay `over` on `under`.
    fn lay(under: &Node, over: &Node) -> Node {
        let (Raw::Table(a), Raw::Table(b)) = (&under.raw, &over.raw) else { return over.clone() };
        let mut entries = a.to_vec();
        for (name, node) in b.iter() {
            match entries.iter().position(|(n, _)| n == name) {
                Some(at) => entries[at].1 = lay(&entries[at].1, node),
                None => entries.push((name.clone(), node.clone())),
            }
        }
        Node { raw: Raw::Table(entries.into_iter().collect()), ..over.clone() }
    }

    /// figment sorts tables.
    fn sorted(node: &Node) -> Node {
        let Raw::Table(entries) = &node.raw else { return node.clone() };
        let mut entries: Vec<_> = entries.iter().map(|(name, child)| (name.clone(), sorted(child))).collect();
        entries.sort_by(|x, y| x.0.cmp(&y.0));
        Node { raw: Raw::Table(entries.into_iter().collect()), ..node.clone() }
    }

    proptest! {
        #[test]
        fn tables_merge_and_everything_else_replaces(layers in prop::collection::vec(leaves(), 1..5)) {
            let roots: Vec<Node> = layers.iter().zip(LAYERS).map(|(leaves, layer)| section(leaves, layer)).collect();
            let sections: Vec<Section<'_>> = roots.iter().map(|node| Section { part: Part::Own, node }).collect();
            let want = roots.iter().fold(Node::root(placed(Layer::BuiltIn)), |under, over| lay(&under, over));
            prop_assert_eq!(merge(&sections).raw, sorted(&want).raw);
        }
    }

    #[test]
    fn parts_beat_layers() {
        let make = |part, layer| (part, section(&[], layer));
        let owned = [
            make(Part::Own, Layer::File),
            make(Part::Defaults, Layer::Flag),
            make(Part::Template(1), Layer::File),
            make(Part::Template(0), Layer::Environment),
            make(Part::BuiltIn, Layer::BuiltIn),
            make(Part::Own, Layer::Environment),
        ];
        let mut sections: Vec<Section<'_>> = owned.iter().map(|(part, node)| Section { part: *part, node }).collect();
        sections.sort_by_key(Section::rank);
        let order: Vec<_> = sections.iter().map(Section::rank).collect();
        assert_eq!(
            order,
            [
                (Part::BuiltIn, Layer::BuiltIn),
                (Part::Defaults, Layer::Flag),
                (Part::Template(0), Layer::Environment),
                (Part::Template(1), Layer::File),
                (Part::Own, Layer::File),
                (Part::Own, Layer::Environment),
            ]
        );
    }

    #[test]
    fn lists_replace_and_keep_the_places_of_their_items() {
        let list = |items: &[i64], layer| {
            let items = items.iter().map(|n| Node { key: placed(layer), place: placed(layer), raw: Raw::Int(*n) }).collect();
            let mut root = Node::root(placed(layer));
            root.insert(&["l".to_owned()], Node { key: placed(layer), place: placed(layer), raw: Raw::List(items) });
            root
        };
        let (file, flag) = (list(&[1, 2, 3], Layer::File), list(&[9], Layer::Flag));
        let merged = merge(&[Section { part: Part::Own, node: &file }, Section { part: Part::Own, node: &flag }]);
        assert_eq!(merged.get("l"), flag.get("l"));
    }
}
