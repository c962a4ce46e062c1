//! Many things that are alike, told once: `192.0.2.1 and 9999 more`. Pure.

use std::collections::HashMap;
use std::hash::Hash;

/// Of more rows than this, those that are alike are told once.
pub const MANY: usize = 50;

/// Each kind once, in the order in which the first of it came, with what stands for all of them.
pub fn alike<K: Hash + Eq + Clone>(things: impl Iterator<Item = (String, K)>) -> Vec<(String, K)> {
    let mut places: HashMap<K, usize> = HashMap::new();
    let mut kinds: Vec<(String, K, usize)> = Vec::new();
    for (name, kind) in things {
        if let Some(&place) = places.get(&kind) {
            kinds[place].2 += 1;
        } else {
            places.insert(kind.clone(), kinds.len());
            kinds.push((name, kind, 0));
        }
    }
    let named = |(name, kind, more)| match more {
        0 => (name, kind),
        more => (format!("{name} and {more} more"), kind),
    };
    kinds.into_iter().map(named).collect()
}

/// The first [`MANY`] of `rows`, and a sentence about the others if there are any.
pub fn first<T>(rows: &[T]) -> (&[T], Option<String>) {
    let more = rows.len().saturating_sub(MANY);
    let sentence = (more > 0).then(|| format!("… and {more} more rows; --all shows them\n"));
    (&rows[..rows.len() - more], sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_is_told_once() {
        let things = [("a", 1), ("b", 2), ("c", 1), ("d", 1)].map(|(name, kind)| (name.to_owned(), kind));
        assert_eq!(alike(things.into_iter()), [("a and 2 more".to_owned(), 1), ("b".to_owned(), 2)]);
        assert_eq!(first(&[0; MANY]).1, None);
        let (rows, more) = first(&[0; MANY + 7]);
        assert_eq!((rows.len(), more.as_deref()), (MANY, Some("… and 7 more rows; --all shows them\n")));
    }
}
