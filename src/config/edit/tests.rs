//! What is changed in a file, and what stays.

use super::*;

/// The text after the key was set.
fn set(text: &str, section: &str, key: &str, value: &str) -> String {
    let mut edit = Edit::parse(text).unwrap();
    edit.set(section, key, value).unwrap();
    edit.text
}

#[test]
fn a_file_that_is_not_there_yet_is_made_of_what_is_set() {
    let mut edit = Edit::default();
    edit.set("pattoo_agent_api", "ip_bind_port", "20201").unwrap();
    edit.set("pattoo", "log_level", "info").unwrap();
    edit.set("pattoo", "log_directory", "~/pattoo/log").unwrap();
    let expected =
        "pattoo_agent_api:\n  ip_bind_port: 20201\npattoo:\n  log_level: info\n  log_directory: ~/pattoo/log\n";
    assert_eq!(edit.text(), expected);
    assert!(edit.has("pattoo") && !edit.has("polling"));
    assert_eq!(edit.get("pattoo_agent_api", "ip_bind_port").as_deref(), Some("20201"));
}

#[test]
fn a_value_is_replaced_and_a_key_is_added_where_it_belongs() {
    let commented =
        "# mine\npattoo:\n    log_level: debug   # while testing\n    # language: en\n\n# theirs\nother:\n- 1\n";
    let cases = [
        (commented, "pattoo", "log_level", "info", commented.replace("level: debug", "level: info")),
        (commented, "pattoo", "x", "a b", commented.replace("testing\n", "testing\n    x: a b\n")),
        (commented, "new", "x", "7", format!("{commented}new:\n  x: 7\n")),
        ("a: {b: 'it''s', c: 2}", "a", "b", "x, y", "a: {b: \"x, y\", c: 2}".to_owned()),
        ("a: {b: one, c: 2}", "a", "c", "3", "a: {b: one, c: 3}".to_owned()),
        ("a: {b: one}", "a", "c", "3", "a: {c: 3, b: one}".to_owned()),
        ("a:\n  b: x,y#z # w\n", "a", "b", "v", "a:\n  b: v # w\n".to_owned()),
        ("a: {}", "a", "c", "yes", "a: {c: \"yes\"}".to_owned()),
        ("a:\r\nb: 1\r\n", "a", "c", "3", "a:\r\n  c: 3\r\nb: 1\r\n".to_owned()),
        ("a:\n  b: \"x \\\" # y\" # z\n", "a", "b", "n", "a:\n  b: \"n\" # z\n".to_owned()),
        ("ä: ö\na:\n  ü: 'ß' # é\n  b: 1", "a", "ü", "x", "ä: ö\na:\n  ü: x # é\n  b: 1".to_owned()),
        ("a:\n  b: 1", "a", "c", "x", "a:\n  b: 1\n  c: x\n".to_owned()),
    ];
    for (text, section, key, value, expected) in cases {
        assert_eq!(set(text, section, key, value), expected, "{text:?}: {key}");
    }
    assert_eq!(set(commented, "pattoo", "log_level", "debug"), commented);
}

#[test]
fn what_was_set_before_is_no_hindrance() {
    let mut edit = Edit::parse("a: {b: one}\nd:\n  e: 1\n").unwrap();
    for (section, key, value) in [("a", "c", "3"), ("a", "b", "two"), ("a", "c", "4"), ("d", "f", "2"), ("d", "e", "3")]
    {
        edit.set(section, key, value).unwrap();
    }
    assert_eq!(edit.text(), "a: {c: 4, b: two}\nd:\n  e: 3\n  f: 2\n");
}

#[test]
fn a_mapping_is_put_below_a_key_of_its_own_once() {
    let cases = [
        ("x: 1\n", "x: 1\nd:\n  \"plc:1502\": {transport: rtu}\n"),
        ("d:\n  a: {b: 1} # c\nx: 1\n", "d:\n  a: {b: 1} # c\n  \"plc:1502\": {transport: rtu}\nx: 1\n"),
        ("d: {a: {b: 1}}\n", "d: {\"plc:1502\": {transport: rtu}, a: {b: 1}}\n"),
        ("d:\n  plc:1502: {name: boiler}\n", "d:\n  plc:1502: {name: boiler}\n"),
    ];
    for (text, expected) in cases {
        let mut edit = Edit::parse(text).unwrap();
        edit.put("d", "plc:1502", "transport", "rtu").unwrap();
        assert_eq!(edit.text(), expected, "{text:?}");
    }
}

#[test]
fn an_item_goes_behind_the_last_one_of_its_list() {
    let item = "- name: two\n  of: [1, 2]\n";
    let cases = [
        (
            "l:\n  - name: one # first\n    of: 1\n\n# end\nx: 1\n",
            "l:\n  - name: one # first\n    of: 1\n  - name: two\n    of: [1, 2]\n\n# end\nx: 1\n",
        ),
        ("l:\n- name: one\n  of:\n  - 1\nx: 1", "l:\n- name: one\n  of:\n  - 1\n- name: two\n  of: [1, 2]\nx: 1"),
        ("l:\n  -   name: one", "l:\n  -   name: one\n  - name: two\n    of: [1, 2]\n"),
        ("l:\n  -\n    name: one\nx: 1\n", "l:\n  -\n    name: one\n  - name: two\n    of: [1, 2]\nx: 1\n"),
        ("l: []\nx: 1\n", "l:\n  - name: two\n    of: [1, 2]\nx: 1\n"),
        ("l: []  # none\r\nx: 1\r\n", "l:  # none\r\n  - name: two\r\n    of: [1, 2]\r\nx: 1\r\n"),
        ("l: ~", "l:\n  - name: two\n    of: [1, 2]\n"),
        ("l: # none\nx: 1\n", "l: # none\n  - name: two\n    of: [1, 2]\nx: 1\n"),
        ("x: 1\n", "x: 1\nl:\n  - name: two\n    of: [1, 2]\n"),
    ];
    for (text, expected) in cases {
        let mut edit = Edit::parse(text).unwrap();
        edit.append("l", item).unwrap();
        assert_eq!(edit.text(), expected, "{text:?}");
    }
}

/// What it would cost to get one of these right is more than to write one line by hand.
#[test]
fn what_cannot_be_changed_in_place_is_refused_and_stays() {
    for (text, key) in [
        ("a:\n  b: |\n    x\n", "b"),
        ("a: &x {b: 1}\nc: *x\n", "b"),
        ("a:\n  b: &x 1\nc: *x\n", "b"),
        ("a: 5\n", "b"),
        ("a:\n  b: one\n   two\n", "b"),
        ("{a: {b: 1}, l: 2}\n...\n", "new"),
    ] {
        let mut edit = Edit::parse(text).unwrap();
        let section = if key == "new" { "new" } else { "a" };
        let refused = edit.set(section, key, "x").unwrap_err().to_string();
        assert!(refused.contains("by hand"), "{refused}");
        assert_eq!(edit, Edit::parse(text).unwrap(), "{text}");
    }
    for text in ["l: [{name: one}]\n", "l: 5\n", "l:\n  - name: &a one\n    of: |\n      # x\n\n"] {
        let mut edit = Edit::parse(text).unwrap();
        let done = edit.append("l", "- name: two\n");
        assert!(done.is_err() || text.contains('&'), "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_the_reason() {
    let cases = [("- a list", "expected a YAML mapping"), ("a: 1\nb: 1\na: 2\n", "\"a\""), ("a: [", "not YAML")];
    for (text, why) in cases {
        let error = Edit::parse(text).unwrap_err();
        assert!(error.contains(why), "{text:?}: {error}");
    }
}

#[test]
fn a_text_has_quotes_where_it_needs_them() {
    let cases =
        ["meters", "SunSpec 103 (inverter)", "a, b", "yes", "7", "a: b", "- x", "#", "{", "it's", "a \"b\"", " x"];
    for text in cases {
        let written = quoted(text);
        let read: Mapping = serde_yaml::from_str(&format!("l: [{written}]")).unwrap();
        assert_eq!(read.get("l"), Some(&Value::from(vec![text])), "{written}");
    }
    assert_eq!([quoted("plc 7"), quoted("a:502")], ["plc 7", "\"a:502\""]);
}
