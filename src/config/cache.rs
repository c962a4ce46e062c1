//! `cache_min_free`, `cache_max_bytes`, `cache_max_age`: how much disk undelivered readings may take.

use std::time::Duration;

use super::value::{LONGEST_DURATION, bytes, duration_within};
use super::yaml::cursor::{Cursor, Report};
use super::yaml::node::Node;
use crate::spool::{Limits, MinFree};

/// Smaller than this the spool would drop readings in every short outage.
const LEAST_BYTES: u64 = 1_000_000;

/// Reads `cache_min_free` into `limits`. What is wrong is in the report.
pub fn min_free(value: &Cursor<'_>, limits: &mut Limits, report: &mut Report) {
    match share_or_size(&value.node) {
        Some(min_free) => limits.min_free = min_free,
        None => report.faults.push(value.unfit("a share such as 5%, from 0% to 90%, or a size such as 500MB")),
    }
}

/// The same for `cache_max_bytes`.
pub fn max_bytes(value: &Cursor<'_>, limits: &mut Limits, report: &mut Report) {
    match bytes(&value.node).filter(|&bytes| bytes >= LEAST_BYTES) {
        Some(bytes) => limits.max_bytes = Some(bytes),
        None => report.faults.push(value.unfit("a size such as 2GB, from 1MB")),
    }
}

/// The same for `cache_max_age`.
pub fn max_age(value: &Cursor<'_>, limits: &mut Limits, report: &mut Report) {
    let allowed = Duration::from_secs(60)..=LONGEST_DURATION;
    limits.max_age = duration_within(value, allowed, "a duration such as 30days, from 1m", report);
}

fn share_or_size(node: &Node) -> Option<MinFree> {
    if let Node::Text(text) = node
        && let Some(percent) = text.trim().strip_suffix('%')
    {
        let percent = percent.trim().parse::<f64>().ok().filter(|percent| (0.0..=90.0).contains(percent))?;
        return Some(MinFree::Ratio(percent / 100.0));
    }
    bytes(node).map(MinFree::Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shares_are_read_as_people_write_them() {
        let text = |text: &str| Node::Text(text.to_owned());
        let cases = [
            (text("5%"), Some(MinFree::Ratio(0.05))),
            (text(" 12.5 %"), Some(MinFree::Ratio(0.125))),
            (text("91%"), None),
            (text("-1%"), None),
            (text("NaN%"), None),
            (text("500MB"), Some(MinFree::Bytes(500_000_000))),
            (text("2 GiB"), Some(MinFree::Bytes(2 << 30))),
            (text("10"), Some(MinFree::Bytes(10))),
            (Node::Integer(10), Some(MinFree::Bytes(10))),
            (Node::Integer(-10), None),
            (text("1.5GB"), None),
            (text("99999999999TB"), None),
            (text("GB"), None),
            (text("5 bananas"), None),
        ];
        for (node, expected) in cases {
            assert_eq!(share_or_size(&node), expected, "{node:?}");
        }
    }
}
