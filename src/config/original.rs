//! What the Python agent knows of its configuration file, and whether a file was written for it.
//!
//! A file without any key of ours is taken as the Python agent took it, so that an upgrade ends no polling: what
//! it ignored or took for something else is a warning. One key of ours, and the file was written for this agent:
//! then what is not understood is an error, because it may be what somebody has just typed. Pure.

use super::registers;
use super::yaml::node::Node;

/// The keys of the Python agent, at the top.
pub const KEYS: [&str; 2] = ["polling_interval", "polling_groups"];

/// In a polling group.
pub const GROUP_KEYS: [&str; 6] =
    ["group_name", "ip_devices", "ip_targets", "unit", "input_registers", "holding_registers"];

/// In a register.
pub const REGISTER_KEYS: [&str; 2] = ["address", "multiplier"];

/// All keys at the top, in a group, in a register.
#[derive(Debug, Clone, Copy)]
pub struct Known<'k> {
    pub top: &'k [&'k str],
    pub group: &'k [&'k str],
    pub register: &'k [&'k str],
}

/// Whether a file has none of the keys that are `known` here and not to the Python agent.
pub fn is_for_it(root: &Node, known: &Known<'_>) -> bool {
    // A key that nobody knows proves nothing: the Python agent ignored it, and it may be somebody's comment.
    let ours = |known: &[&str], its: &[&str], key: &str| known.contains(&key) && !its.contains(&key);
    // On the bare tree, before any cursor walks it: how faults are told depends on the answer.
    entries(root).all(|(key, _)| !ours(known.top, &KEYS, key))
        && values(root, "polling_groups").flat_map(items).all(|group| {
            entries(group).all(|(key, _)| !ours(known.group, &GROUP_KEYS, key))
                && ["input_registers", "holding_registers"].into_iter().all(|table| {
                    // A mapping of names counts as a key of ours: only this agent reads it.
                    if values(group, table).any(names_numbers) {
                        return false;
                    }
                    let registers = values(group, table).flat_map(items);
                    let mut keys = registers.flat_map(entries).map(|(key, _)| key);
                    keys.all(|key| !ours(known.register, &REGISTER_KEYS, key))
                })
        })
}

/// Whether it is a mapping of numbers to names, which the Python agent ignored.
fn names_numbers(node: &Node) -> bool {
    let Node::Mapping(entries) = node else { return false };
    entries.iter().any(|(key, name)| registers::is_numbers(key) && matches!(name, Node::Text(_)))
}

/// The entries of a mapping with words as keys, those of merged mappings too.
fn entries(node: &Node) -> Box<dyn Iterator<Item = (&str, &Node)> + '_> {
    let Node::Mapping(entries) = node else { return Box::new(std::iter::empty()) };
    Box::new(entries.iter().flat_map(|(key, value)| match key {
        // A key of ours that is merged into groups is written by somebody who means this agent, too.
        Node::Text(key) if key == "<<" => merged(value),
        Node::Text(key) => Box::new(std::iter::once((key.as_str(), value))),
        _ => Box::new(std::iter::empty()),
    }))
}

/// The entries of what is merged: a mapping, or a list of them.
fn merged(value: &Node) -> Box<dyn Iterator<Item = (&str, &Node)> + '_> {
    if let Node::List(sources) = value { Box::new(sources.iter().flat_map(entries)) } else { entries(value) }
}

fn values<'n>(node: &'n Node, key: &'n str) -> impl Iterator<Item = &'n Node> {
    entries(node).filter(move |(name, _)| *name == key).map(|(_, value)| value)
}

fn items(node: &Node) -> impl Iterator<Item = &Node> {
    let items: &[Node] = if let Node::List(items) = node { items } else { &[] };
    items.iter()
}
