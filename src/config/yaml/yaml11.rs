//! What a plain scalar meant to the Python agent, which read YAML 1.1 where our parser reads 1.2.
//!
//! Only forms that the two read differently and that an old configuration may hold: octal with a leading
//! zero, digits grouped by underscores, base 60, yes and no. A quoted scalar is text to both, so the caller
//! must know that the scalar was plain.

use super::node::Node;

/// The value that `plain` had for the Python agent, when our parser takes it for text.
pub fn resolve(plain: &str) -> Option<Node> {
    // PyYAML leaves `y` and `n` texts, though YAML 1.1 has them among its booleans. `true` and `false` need no row:
    // both versions read them alike.
    match plain {
        "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Some(Node::Bool(true)),
        "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Some(Node::Bool(false)),
        _ => {}
    }
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, plain.strip_prefix('+').unwrap_or(plain)),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    if digits.contains(':') {
        return base60(digits).map(|value| Node::Integer(sign * value));
    }
    let bare: String = digits.chars().filter(|&character| character != '_').collect();
    // `089` has digits that are not octal: a text to PyYAML, and to us.
    let octal = bare.len() > 1 && bare.starts_with('0');
    let integer = i128::from_str_radix(&bare, if octal { 8 } else { 10 });
    integer.ok().map(|value| Node::Integer(sign * value))
}

/// `1:30` is 90, as YAML 1.1 has it; the first part is without a leading zero, the others below 60.
fn base60(digits: &str) -> Option<i128> {
    let mut parts = digits.split(':');
    // PyYAML's pattern is [1-9][0-9_]*(:[0-5]?[0-9])+, so that 0:10 stays a text.
    let first = parts.next().filter(|first| !first.starts_with('0'))?;
    let mut value: i128 = first.replace('_', "").parse().ok()?;
    for part in parts {
        let part: i128 = part.parse().ok().filter(|_| (1..=2).contains(&part.len()))?;
        value = value.checked_mul(60)?.checked_add(part).filter(|_| (0..60).contains(&part))?;
    }
    Some(value)
}

/// What Python's `float()` makes of a text, or `None` when it is not numeric.
pub fn python_float(text: &str) -> Option<f64> {
    let trimmed = text.trim();
    // Python takes an underscore between two digits alone (PEP 515); without this `_1` and `1__0` would be numbers.
    let lone_underscore = trimmed.split('_').any(|part| {
        !part.starts_with(|first: char| first.is_ascii_digit()) || !part.ends_with(|last: char| last.is_ascii_digit())
    });
    if trimmed.contains('_') && lone_underscore {
        return None;
    }
    // Rust reads inf, infinity and nan as Python does; whoever asks refuses them where they do harm.
    trimmed.replace('_', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_they_meant_to_the_python_agent() {
        let cases = [
            ("072461", Some(Node::Integer(30_001))),
            ("1_000", Some(Node::Integer(1_000))),
            ("30_001", Some(Node::Integer(30_001))),
            ("1:30", Some(Node::Integer(90))),
            ("-1:30", Some(Node::Integer(-90))),
            ("yes", Some(Node::Bool(true))),
            ("Off", Some(Node::Bool(false))),
            ("y", None),
            ("089", None),
            ("1:75", None),
            ("0:10", None),
            ("1:2:", None),
            ("host:502", None),
            ("", None),
            ("-", None),
            ("1e3", None),
            ("0o17", None),
        ];
        for (plain, meant) in cases {
            assert_eq!(resolve(plain), meant, "{plain}");
        }
    }

    #[test]
    fn text_is_numeric_when_python_says_so() {
        let cases = [
            ("2", Some(2.0)),
            (" 3 ", Some(3.0)),
            ("-4", Some(-4.0)),
            ("1e3", Some(1000.0)),
            (".5", Some(0.5)),
            ("1_000", Some(1000.0)),
            ("_1", None),
            ("1__0", None),
            ("1_", None),
            ("", None),
            ("abc", None),
            ("0x10", None),
        ];
        for (text, value) in cases {
            assert_eq!(python_float(text), value, "{text:?}");
        }
        assert!(python_float("inf").is_some_and(f64::is_infinite));
        assert!(python_float("nan").is_some_and(f64::is_nan));
    }
}
