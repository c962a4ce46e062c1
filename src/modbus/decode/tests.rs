//! What words mean, by Python's `struct`, by example, and back again for arbitrary values.

use proptest::prelude::*;

use super::*;
use crate::modbus::plan::BlockPoint;

/// What Python's `struct` says, made by the script beside it.
const STRUCT: &str = include_str!("../../../tests/fixtures/decode.tsv");

const NOW: Timestamp = Timestamp::from_millis(7);

fn kind(name: &str) -> Kind {
    match name {
        "uint8_high" => Kind::Uint8(Byte::High),
        "uint8_low" => Kind::Uint8(Byte::Low),
        "int8_high" => Kind::Int8(Byte::High),
        "int8_low" => Kind::Int8(Byte::Low),
        "uint16" => Kind::Uint16,
        "int16" => Kind::Int16,
        "uint32" => Kind::Uint32,
        "int32" => Kind::Int32,
        "uint64" => Kind::Uint64,
        "int64" => Kind::Int64,
        "float16" => Kind::Float16,
        "float32" => Kind::Float32,
        "float64" => Kind::Float64,
        "bcd16" => Kind::Bcd(1),
        "bcd32" => Kind::Bcd(2),
        "bcd64" => Kind::Bcd(4),
        _ => panic!("{name}"),
    }
}

fn of(typed: Typed) -> Format {
    Format::Typed(typed.into())
}

#[test]
fn every_type_in_every_order_means_what_it_means_to_pythons_struct() {
    let mut lines = 0;
    for line in STRUCT.lines() {
        let [name, order, words, meant] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let words: Vec<_> = words.split(' ').map(|word| u16::from_str_radix(word, 16).unwrap()).collect();
        let format = of(Typed { order: Order::parse(order).unwrap(), ..Typed::plain(kind(name)) });
        let got = value(&format, &words);
        let as_meant = match (meant, got) {
            ("None", got) => matches!(got, Err(NotAValue::NotDecimal(_))),
            ("nan" | "inf" | "-inf", got) => matches!(got, Err(NotAValue::NotANumber(_))),
            (meant, Ok(Value::Integer(got))) => meant.parse() == Ok(got),
            (meant, Ok(Value::Float(got))) => meant.parse() == Ok(got),
            (meant, Err(NotAValue::OutOfRange { .. })) => meant.parse::<f64>().unwrap().abs() >= TOO_LARGE,
            _ => false,
        };
        assert!(as_meant, "{line}: {got:?}");
        lines += 1;
    }
    assert_eq!(lines, 968);
}

#[test]
fn a_word_is_an_integer_when_raw_and_a_float_otherwise() {
    let cases = [
        (Scale::Raw, 0, Value::Integer(0)),
        (Scale::Raw, 65_535, Value::Integer(65_535)),
        (Scale::Times(1.0), 2_715, Value::Float(2_715.0)),
        (Scale::Times(0.1), 3, Value::Float(3.0 * 0.1)),
        (Scale::Times(0.0), 7, Value::Float(0.0)),
        (Scale::Times(-2.0), 7, Value::Float(-14.0)),
        (Scale::Times(1e25), 9_999, Value::Float(9_999.0 * 1e25)),
    ];
    for (scale, word, expected) in cases {
        assert_eq!(value(&Format::Word(scale), &[word]), Ok(expected), "{scale:?} {word}");
        assert_eq!(
            value(&of(Typed { scale, ..Typed::plain(Kind::Uint16) }), &[word]),
            Ok(expected),
            "{scale:?} {word}"
        );
    }
}

#[test]
fn what_the_server_cannot_store_is_no_value() {
    let cases = [
        (1e25, 10_000),
        (-1e25, 10_000),
        (1e29, 1),
        (f64::MAX, 2),
        (f64::INFINITY, 1),
        (f64::INFINITY, 0),
        (f64::NAN, 1),
    ];
    for (factor, word) in cases {
        for format in [
            Format::Word(Scale::Times(factor)),
            of(Typed { scale: Scale::Times(factor), ..Typed::plain(Kind::Uint16) }),
        ] {
            let got = value(&format, &[word]);
            assert!(matches!(got, Err(NotAValue::OutOfRange { .. })), "{factor} {word}: {got:?}");
        }
    }
}

#[test]
fn bits_are_numbered_from_the_least_significant_one() {
    let cases = [(0, 0, 1), (15, 15, 1), (14, 14, 0), (4, 7, 0b1010), (0, 15, 0x80A5), (8, 15, 0x80)];
    for (first, last, meant) in cases {
        let format = of(Typed::plain(Kind::Bits { first, last }));
        assert_eq!(value(&format, &[0x80A5]), Ok(Value::Integer(meant)), "{first} to {last}");
    }
}

#[test]
fn a_number_is_scaled_then_moved_and_only_an_untouched_integer_stays_one() {
    let int = |scale, offset| of(Typed { scale, offset, ..Typed::plain(Kind::Int16) });
    let cases = [
        (int(Scale::Raw, 0.0), Value::Integer(-5)),
        (int(Scale::Times(1.0), 0.0), Value::Float(-5.0)),
        (int(Scale::Times(2.0), 0.5), Value::Float(-9.5)),
        (int(Scale::Raw, 273.0), Value::Float(268.0)),
    ];
    for (format, meant) in cases {
        assert_eq!(value(&format, &[0xFFFB]), Ok(meant), "{format:?}");
    }
}

#[test]
fn a_sentinel_and_what_is_outside_the_limits_is_no_value() {
    let typed =
        Typed { unavailable: vec![0x8000, 7], minimum: Some(-10.0), maximum: Some(10.0), ..Typed::plain(Kind::Int16) };
    let cases = [
        (0x8000, Err(NotAValue::Unavailable(0x8000))),
        (7, Err(NotAValue::Unavailable(7))),
        (10, Ok(Value::Integer(10))),
        (11, Err(NotAValue::Outside(11.0))),
        (0xFFF6, Ok(Value::Integer(-10))),
        (0xFFF5, Err(NotAValue::Outside(-11.0))),
    ];
    for (word, meant) in cases {
        assert_eq!(value(&of(typed.clone()), &[word]), meant, "{word}");
    }
}

/// SunSpec: an accumulator that is not there says 0, everything else a pattern of its own.
#[test]
fn the_patterns_of_sunspec_are_no_values() {
    let bit = Kind::Bits { first: 3, last: 3 };
    let cases: [(Kind, bool, &[u16], bool); 20] = [
        (Kind::Uint16, false, &[0xFFFF], false),
        (Kind::Int16, false, &[0x8000], false),
        (Kind::Uint32, false, &[0xFFFF; 2], false),
        (Kind::Int32, false, &[0x8000, 0], false),
        (Kind::Uint64, false, &[0xFFFF; 4], false),
        (Kind::Int64, false, &[0x8000, 0, 0, 0], false),
        (bit, false, &[0xFFFF], false),
        (Kind::Uint16, true, &[0], false),
        (Kind::Uint32, true, &[0, 0], false),
        (Kind::Uint64, true, &[0; 4], false),
        (Kind::Uint16, true, &[0xFFFF], false),
        (Kind::Uint32, true, &[0xFFFF; 2], false),
        (Kind::Uint16, false, &[0], true),
        (Kind::Uint32, false, &[0, 0], true),
        (Kind::Uint64, false, &[0; 4], true),
        (Kind::Uint32, true, &[0, 1], true),
        (Kind::Int16, true, &[0], true),
        (Kind::Int32, true, &[0, 0], true),
        (Kind::Float32, true, &[0, 0], true),
        (bit, true, &[0], true),
    ];
    for (kind, counter, words, is_value) in cases {
        let typed = Typed { unavailable: kind.sunspec_unavailable(counter), ..Typed::plain(kind) };
        let got = value(&of(typed), words);
        let expected = if is_value { got.is_ok() } else { matches!(got, Err(NotAValue::Unavailable(_))) };
        assert!(expected, "{kind:?}, counter {counter}, {words:?}: {got:?}");
    }
}

/// What a poll of these blocks with these replies brings, in the order in which it is known.
fn polled(replies: &[(Block, Vec<u16>)]) -> Vec<(PointId, Result<Value, NotAValue>)> {
    let mut found = Vec::new();
    let mut gathering = Gathering::default();
    for (block, words) in replies {
        gathering.take(block, words, NOW, |id, _, value| found.push((id, value)));
    }
    gathering.finish(|id, at, value| {
        assert_eq!(at, NOW);
        found.push((id, value));
    });
    found
}

fn block(address: u16, quantity: u16, points: Vec<BlockPoint>) -> Block {
    Block { unit: UnitId(1), table: Table::InputRegisters, address, quantity, whole: false, points }
}

fn at(id: u32, offset: u16, format: Format) -> BlockPoint {
    BlockPoint { offset, width: format.width(), reads: Reads::Value(PointId(id), format) }
}

#[test]
fn each_point_gets_the_words_at_its_offset() {
    let raw = || Format::Word(Scale::Raw);
    let points = vec![
        at(4, 0, raw()),
        at(5, 2, raw()),
        at(6, 2, Format::Word(Scale::Times(2.0))),
        at(7, 3, raw()),
        at(8, 1, of(Typed::plain(Kind::Uint32))),
        at(9, 2, of(Typed::plain(Kind::Uint32))),
    ];
    let got = polled(&[(block(10, 3, points), vec![100, 200, 300])]);
    let expected = vec![
        (PointId(4), Ok(Value::Integer(100))),
        (PointId(5), Ok(Value::Integer(300))),
        (PointId(6), Ok(Value::Float(600.0))),
        (PointId(7), Err(NotAValue::NoWord { offset: 3 })),
        (PointId(8), Ok(Value::Integer((200 << 16) + 300))),
        (PointId(9), Err(NotAValue::NoWord { offset: 2 })),
    ];
    assert_eq!(got, expected);
}

#[test]
fn a_power_of_ten_scales_whatever_comes_first_and_without_it_there_is_no_value() {
    let scaled = |scale| of(Typed { scale_address: Some(40), scale, ..Typed::plain(Kind::Int16) });
    let value = |scale| block(10, 1, vec![at(1, 0, scaled(scale))]);
    let power = || block(40, 1, vec![BlockPoint { offset: 0, width: 1, reads: Reads::PowerOfTen }]);
    let cases = [
        (Scale::Raw, vec![(value(Scale::Raw), vec![2_301]), (power(), vec![0xFFFF])], Ok(Value::Float(230.1))),
        (Scale::Raw, vec![(power(), vec![0xFFFE]), (value(Scale::Raw), vec![2_301])], Ok(Value::Float(23.01))),
        (Scale::Raw, vec![(power(), vec![2]), (value(Scale::Raw), vec![0xFFFF])], Ok(Value::Float(-100.0))),
        (Scale::Raw, vec![(power(), vec![0]), (value(Scale::Raw), vec![7])], Ok(Value::Float(7.0))),
        (Scale::Raw, vec![(power(), vec![0x8000]), (value(Scale::Raw), vec![7])], Err(NotAValue::Unscaled)),
        (Scale::Raw, vec![(power(), vec![11]), (value(Scale::Raw), vec![7])], Err(NotAValue::Unscaled)),
        (Scale::Raw, vec![(value(Scale::Raw), vec![7])], Err(NotAValue::Unscaled)),
        (
            Scale::Times(0.001),
            vec![(power(), vec![1]), (value(Scale::Times(0.001)), vec![5])],
            Ok(Value::Float(50.0 * 0.001)),
        ),
    ];
    for (scale, replies, meant) in cases {
        assert_eq!(polled(&replies), [(PointId(1), meant)], "{scale:?} {replies:?}");
    }
}

/// The registers of a device with this order that holds `bits`.
fn on_the_wire(bits: u64, width: u16, order: Order) -> Vec<u16> {
    let mut words: Vec<u16> =
        (0..width).rev().map(|place| u16::try_from(bits >> (16 * place) & 0xFFFF).unwrap()).collect();
    if order.swaps_words() {
        words.reverse();
    }
    if order.swaps_bytes() {
        words = words.into_iter().map(u16::swap_bytes).collect();
    }
    words
}

proptest! {
    #[test]
    #[allow(clippy::cast_possible_truncation, reason = "the narrower number is what the pattern is")]
    fn what_was_encoded_is_decoded(integer: i64, float: f64, single: f32, order in 0..4_usize) {
        let order = [Order::Abcd, Order::Dcba, Order::Badc, Order::Cdab][order];
        let decoded = |kind: Kind, bits: u64| {
            value(&of(Typed { order, ..Typed::plain(kind) }), &on_the_wire(bits, kind.width(), order))
        };
        let bits = integer.cast_unsigned();
        prop_assert_eq!(decoded(Kind::Int64, bits), Ok(Value::Integer(integer)));
        prop_assert_eq!(decoded(Kind::Uint64, bits >> 1), Ok(Value::Integer((bits >> 1).cast_signed())));
        prop_assert_eq!(decoded(Kind::Int32, bits & 0xFFFF_FFFF), Ok(Value::Integer(i64::from((bits as u32).cast_signed()))));
        prop_assert_eq!(decoded(Kind::Uint32, bits & 0xFFFF_FFFF), Ok(Value::Integer(i64::from(bits as u32))));
        prop_assert_eq!(decoded(Kind::Int16, bits & 0xFFFF), Ok(Value::Integer(i64::from((bits as u16).cast_signed()))));
        for (kind, number, bits) in [
            (Kind::Float64, float, float.to_bits()),
            (Kind::Float32, f64::from(single), u64::from(single.to_bits())),
        ] {
            match decoded(kind, bits) {
                Ok(got) => prop_assert_eq!(got, Value::Float(number)),
                Err(_) => prop_assert!(!number.is_finite() || number.abs() >= TOO_LARGE),
            }
        }
    }

    #[test]
    fn no_words_in_no_format_make_a_value_that_the_server_cannot_store(
        words: [u16; 4], kind in 0..16_usize, power: u16, factor: f64, offset: f64
    ) {
        let names = [
            "uint8_high", "uint8_low", "int8_high", "int8_low", "uint16", "int16", "uint32", "int32", "uint64", "int64",
            "float16", "float32", "float64", "bcd16", "bcd32", "bcd64",
        ];
        let kind = self::kind(names[kind]);
        let typed = Typed { scale: Scale::Times(factor), scale_address: Some(40), offset, ..Typed::plain(kind) };
        let power = (block(40, 1, vec![BlockPoint { offset: 0, width: 1, reads: Reads::PowerOfTen }]), vec![power]);
        let format = of(typed);
        let reply = (block(10, 4, vec![at(1, 0, format)]), words.to_vec());
        for (_, value) in polled(&[power, reply]) {
            if let Ok(Value::Float(value)) = value {
                prop_assert!(value.is_finite() && value.abs() < TOO_LARGE);
            }
        }
    }
}
