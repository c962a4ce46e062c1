//! Strings and numbers as the original's `json.dumps` writes them.
//!
//! The server parses the body and does not care, but a body that reads like the original's can be compared
//! with one, and stays ASCII whatever a target is called. A float keeps its `.0`, because the server tells
//! integers from floats. Not-a-number and infinity have no JSON form: callers must not hand them in.

/// Appends `text` in quotes, everything outside printable ASCII escaped.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            ' '..='~' => out.push(c as u8),
            _ => {
                // Two escapes, a surrogate pair, for what is beyond 16 bits.
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
        }
    }
    out.push(b'"');
}

/// Appends an integer.
pub fn push_integer(out: &mut Vec<u8>, value: i64) {
    let mut buffer = itoa::Buffer::new();
    // What a register holds takes half the work.
    let text = match u16::try_from(value) {
        Ok(word) => buffer.format(word),
        Err(_) => buffer.format(value),
    };
    out.extend_from_slice(text.as_bytes());
}

/// Appends a finite float: the shortest digits that mean it, laid out like Python's `repr`.
pub fn push_float(out: &mut Vec<u8>, value: f64) {
    if let Some(whole) = whole(value) {
        push_integer(out, whole);
        out.extend_from_slice(b".0");
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    // Outside of this Python's `repr` writes an exponent.
    if value == 0.0 || (1e-4..1e16).contains(&value.abs()) {
        out.extend_from_slice(text.as_bytes());
    } else {
        push_scientific(out, text);
    }
}

/// The integer that `value` is, if its digits are those of the float: what a register without a multiplier holds.
fn whole(value: f64) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation, reason = "it counts only if nothing was cut off")]
    let integer = value as i64;
    #[allow(clippy::cast_precision_loss, reason = "below 2^53 there is none")]
    let same = (integer as f64).to_bits() == value.to_bits();
    (same && integer.unsigned_abs() < 1 << 53).then_some(integer)
}

/// Lays out anew what Python writes with an exponent: `1e-05`, `-1.04e+22`, and never `0.00001` or `1e22`.
fn push_scientific(out: &mut Vec<u8>, text: &str) {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));

    // The value is 0.ddd… times ten to the `point`, once leading zeros are gone.
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    let leading_zeros = digits.len() - significant.len();
    let significant = significant.trim_end_matches('0');
    let point = i64::try_from(whole.len()).unwrap_or(0) - i64::try_from(leading_zeros).unwrap_or(0)
        + exponent.parse::<i64>().unwrap_or(0);

    let (first, rest) = significant.split_at(1.min(significant.len()));
    let dot = if rest.is_empty() { "" } else { "." };
    let exponent = point - 1;
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    out.extend_from_slice(format!("{sign}{first}{dot}{rest}e{exponent_sign}{:02}", exponent.abs()).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(value: f64) -> String {
        let mut out = Vec::new();
        push_float(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_read_as_python_writes_them() {
        let table = include_str!("../../../tests/fixtures/python_floats.txt");
        let mut cases = 0;
        for line in table.lines().filter(|line| !line.starts_with('#')) {
            let (bits, repr) = line.split_once(' ').unwrap();
            let value = f64::from_bits(u64::from_str_radix(bits, 16).unwrap());
            assert_eq!(float(value), repr, "{bits}");
            cases += 1;
        }
        assert_eq!(cases, 1_000);
    }

    #[test]
    fn a_whole_float_keeps_its_sign_and_its_point() {
        let cases = [(0.0, "0.0"), (-0.0, "-0.0"), (65_535.0, "65535.0"), (-1.0, "-1.0"), (9e15, "9000000000000000.0")];
        for (value, text) in cases.into_iter().chain([(9_007_199_254_740_993.0, "9007199254740992.0"), (1e16, "1e+16")])
        {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn strings_read_as_python_writes_them() {
        let cases = [
            ("", r#""""#),
            ("192.0.2.20:1502", r#""192.0.2.20:1502""#),
            ("a\"b\\c/d", r#""a\"b\\c/d""#),
            ("\n\r\t\u{8}\u{c}", r#""\n\r\t\b\f""#),
            ("\0\u{1f}\u{7f}", r#""\u0000\u001f\u007f""#),
            ("Zähler", r#""Z\u00e4hler""#),
            ("温度\u{2028}", r#""\u6e29\u5ea6\u2028""#),
            ("\u{1f321}", r#""\ud83c\udf21""#),
        ];
        for (text, json) in cases {
            let mut out = Vec::new();
            push_string(&mut out, text);
            assert_eq!(String::from_utf8(out).unwrap(), json);
        }
    }

    #[test]
    fn integers_are_plain() {
        for value in [0, -1, 65_535, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            push_integer(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
