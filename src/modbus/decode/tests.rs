//! What words mean, by Python's `struct`, by example, and back again for arbitrary values.

use proptest::prelude::*;

use super::*;
use crate::modbus::plan::{BlockPoint, Limits, plan, rechecks};
use crate::modbus::register::{Point, Reference, Table, UnitId};

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
        (Scale::Times(0.1), 3, Value::Float(0.3)),
        // E12
        (Scale::Times(0.01), 23_773, Value::Float(237.73)),
        (Scale::Times(0.3), 3, Value::Float(0.9)),
        (Scale::Times(0.000_1), 12_345, Value::Float(1.234_5)),
        (Scale::Times(-0.1), 3, Value::Float(-0.3)),
        (Scale::Times(1.0 / 3_600.0), 7, Value::Float(7.0 * (1.0 / 3_600.0))),
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
    let mut decoder = PollDecoder::default();
    for (block, words) in replies {
        decoder.take(block, words, NOW, |id, _, value| found.push((id, value)));
    }
    decoder.finish(|id, at, value| {
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

/// A value at 10, scaled by the register at `scale`.
fn scaled_at(scale: u16, factor: Scale) -> BlockPoint {
    at(1, 0, of(Typed { scale_address: Some(scale), scale: factor, ..Typed::plain(Kind::Int16) }))
}

fn scale_register(offset: u16) -> BlockPoint {
    BlockPoint { offset, width: 1, reads: Reads::PowerOfTen }
}

#[test]
fn a_scale_register_scales_the_value_that_it_came_with() {
    let cases = [
        (Scale::Raw, [2_301, 0xFFFF], Ok(Value::Float(230.1))),
        (Scale::Raw, [2_301, 0xFFFE], Ok(Value::Float(23.01))),
        (Scale::Raw, [0xFFFF, 2], Ok(Value::Float(-100.0))),
        (Scale::Raw, [7, 0], Ok(Value::Float(7.0))),
        (Scale::Raw, [7, 0x8000], Err(NotAValue::Unscaled)),
        (Scale::Raw, [7, 11], Err(NotAValue::Unscaled)),
        (Scale::Times(0.001), [5, 1], Ok(Value::Float(50.0 * 0.001))),
    ];
    for (factor, [word, power], meant) in cases {
        let together = block(10, 2, vec![scaled_at(11, factor), scale_register(1)]);
        // A reply that has the register for another reason is as good.
        let beside = block(10, 2, vec![scaled_at(11, factor)]);
        // Whatever the register held in other replies.
        let other = || (block(11, 1, vec![scale_register(0)]), vec![9]);
        for block in [together, beside] {
            let reply = (block, vec![word, power]);
            assert_eq!(polled(std::slice::from_ref(&reply)), [(PointId(1), meant)], "{factor:?} {word} {power}");
            assert_eq!(polled(&[other(), reply, other()]), [(PointId(1), meant)], "{factor:?} {word} {power}");
        }
    }
}

/// A device may change value and scale register between two requests.
#[test]
fn a_scale_register_of_another_reply_is_believed_when_it_is_the_same_before_and_after_the_value() {
    use NotAValue::{ScaleMoved, Unscaled};
    /// What a request of the poll is for.
    enum Read {
        Value,
        Scale(u16),
    }
    use Read::{Scale as S, Value as V};
    let moved = |before, after| Err(ScaleMoved { before, after });
    let cases: [(&[Read], Result<Value, NotAValue>, bool); 12] = [
        (&[V], Err(Unscaled), false),
        (&[V, S(1)], Err(Unscaled), false),
        (&[V, S(1), S(1)], Err(Unscaled), false),
        (&[S(1), V], Err(Unscaled), true),
        (&[S(1), V, S(1)], Ok(Value::Float(70.0)), false),
        (&[S(1), V, S(2)], moved(1, 2), false),
        (&[S(1), V, S(0xFFFF)], moved(1, -1), false),
        (&[S(2), S(1), V, S(1), S(2)], Ok(Value::Float(70.0)), false),
        (&[S(1), S(2), V, S(1)], moved(2, 1), false),
        (&[S(1), V, S(2), S(1)], moved(1, 2), false),
        (&[S(0x8000), V, S(0x8000)], Err(Unscaled), false),
        (&[S(11), V, S(11)], Err(Unscaled), false),
    ];
    for (place, (reads, meant, again)) in cases.into_iter().enumerate() {
        let (mut decoder, mut got) = (PollDecoder::default(), Vec::new());
        for read in reads {
            let (block, word) = match read {
                V => (block(10, 1, vec![scaled_at(40, Scale::Raw)]), 7),
                S(word) => (block(40, 1, vec![scale_register(0)]), *word),
            };
            decoder.take(&block, &[word], NOW, |id, _, value| got.push((id, value)));
        }
        assert_eq!(got, [], "nothing is known before the end");
        let expected = if again { vec![block(40, 1, vec![scale_register(0)])] } else { Vec::new() };
        assert_eq!(decoder.rechecks(), expected, "case {place}");
        decoder.finish(|id, at, value| got.push((id, value.inspect(|_| assert_eq!(at, NOW)))));
        assert_eq!(got, [(PointId(1), meant)], "case {place}");
    }
}

#[test]
fn a_scale_register_says_nothing_of_a_value_when_its_readings_are_far_apart() {
    for (seconds, known) in [(10, true), (11, false)] {
        let (mut decoder, mut got) = (PollDecoder::default(), Vec::new());
        let scale = block(40, 1, vec![scale_register(0)]);
        let later = NOW.after(Duration::from_secs(seconds));
        decoder.take(&scale, &[1], NOW, |_, _, _| panic!("a scale register is no value"));
        decoder.take(&block(10, 1, vec![scaled_at(40, Scale::Raw)]), &[7], later, |id, _, value| got.push((id, value)));
        decoder.take(&scale, &[1], later, |_, _, _| panic!("a scale register is no value"));
        decoder.finish(|id, _, value| got.push((id, value)));
        let meant = if known { Ok(Value::Float(70.0)) } else { Err(NotAValue::Unscaled) };
        assert_eq!(got, [(PointId(1), meant)], "{seconds}");
    }
}

#[test]
fn what_is_no_number_is_no_value_whatever_its_scale_register_says() {
    let typed = Typed { unavailable: vec![7], scale_address: Some(40), ..Typed::plain(Kind::Int16) };
    let value = block(10, 1, vec![at(1, 0, of(typed))]);
    let mut decoder = PollDecoder::default();
    decoder.take(&block(40, 1, vec![scale_register(0)]), &[1], NOW, |_, _, _| panic!("a scale register is no value"));
    let mut got = Vec::new();
    decoder.take(&value, &[7], NOW, |_, _, value| got.push(value));
    assert_eq!(got, [Err(NotAValue::Unavailable(7))]);
    assert_eq!(decoder.rechecks(), [], "there is nothing to confirm");
}

/// Rechecks are requests as the device has answered them before.
#[test]
fn scale_registers_that_touch_are_read_again_by_one_request_if_it_is_no_longer_than_one_that_was_answered() {
    let values: Vec<_> = (0..4)
        .map(|id| {
            at(u32::from(id), id, of(Typed { scale_address: Some(40 + id + id / 3), ..Typed::plain(Kind::Int16) }))
        })
        .collect();
    let all = [scale_register(0), scale_register(1), scale_register(2), scale_register(4)];
    let one_by_one: Vec<_> = [40, 41, 42, 44].map(|address| block(address, 1, vec![scale_register(0)])).into();
    let at_once = vec![block(40, 5, all.to_vec())];
    let shapes = |blocks: &[Block]| blocks.iter().map(|block| (block.address, block.quantity)).collect::<Vec<_>>();
    for (first, again) in [(one_by_one, vec![(40, 1), (41, 1), (42, 1), (44, 1)]), (at_once, vec![(40, 3), (44, 1)])] {
        let mut decoder = PollDecoder::default();
        for block in first.iter().chain([&block(10, 4, values.clone())]) {
            decoder.take(block, &vec![1; usize::from(block.quantity)], NOW, |id, _, value| panic!("{id:?} {value:?}"));
        }
        assert_eq!(shapes(&decoder.rechecks()), again);
        for block in decoder.rechecks() {
            decoder.take(&block, &vec![1; usize::from(block.quantity)], NOW, |id, _, value| panic!("{id:?} {value:?}"));
        }
        assert_eq!(decoder.rechecks(), []);
        let mut values = 0;
        decoder.finish(|_, _, value| values += usize::from(value == Ok(Value::Float(10.0))));
        assert_eq!(values, 4);
    }
}

/// Values of 1, 2 or 4 registers, most of them with a scale register somewhere near.
fn scaled_points() -> impl Strategy<Value = Vec<Point>> {
    let kind = prop_oneof![Just(Kind::Int16), Just(Kind::Uint32), Just(Kind::Float64)];
    prop::collection::vec((0_u16..400, kind, prop::option::weighted(0.8, 0_u16..400)), 1..60).prop_map(|points| {
        (0..)
            .zip(points)
            .map(|(id, (address, kind, scale_address))| Point {
                id: PointId(id),
                unit: UnitId(1),
                reference: Reference::new(Table::HoldingRegisters, 400_001 + i64::from(address)).unwrap(),
                format: of(Typed { scale_address, ..Typed::plain(kind) }),
                together: None,
            })
            .collect()
    })
}

proptest! {
    /// A poll of a plan, as it is or in the pieces of a device that takes no gaps and only short requests.
    #[test]
    fn with_what_is_read_again_every_value_of_a_plan_is_known_and_none_is_of_two_moments(
        points in scaled_points(), max in 4_u16..=125, longest in prop::option::of(1_u16..=125),
        moves_at in 0_usize..300, powers in [0_u16..4, 0_u16..4],
    ) {
        let planned = plan(&points, Limits::new(max).unwrap());
        let blocks: Vec<Block> = match longest {
            None => planned,
            Some(longest) => planned.iter().flat_map(|block| block.pieces(longest, |_| true)).collect(),
        };
        // Every register of the device holds the one power, and after so many replies the other one.
        let mut asked = 0;
        let mut reply = |block: &Block| {
            let power = powers[usize::from(asked >= moves_at)];
            asked += 1;
            vec![power; usize::from(block.quantity)]
        };
        let mut known: Vec<Option<Result<Value, NotAValue>>> = vec![None; points.len()];
        let mut twice = 0;
        let mut found = |id: PointId, _: Timestamp, value| {
            twice += usize::from(known[id.index()].replace(value).is_some());
        };
        let mut decoder = PollDecoder::default();
        for block in &blocks {
            decoder.take(block, &reply(block), NOW, &mut found);
        }
        let again = decoder.rechecks();
        prop_assert_eq!(&again, &rechecks(&blocks), "as planned");
        for block in &again {
            prop_assert!(block.points.iter().all(|point| point.reads == Reads::PowerOfTen));
            // No longer than the longest request of the poll, and a value of four registers is asked for whole.
            prop_assert!(block.quantity <= longest.unwrap_or(max).min(max).max(4));
            decoder.take(block, &reply(block), NOW, &mut found);
        }
        prop_assert!(decoder.rechecks().is_empty());
        decoder.finish(&mut found);
        prop_assert_eq!(twice, 0);
        for (point, value) in points.iter().zip(known) {
            prop_assert!(value.is_some(), "{:?} has neither a value nor a reason", point);
            let Some(value) = value else { continue };
            let Some(_) = point.format.scale_address() else { continue };
            match value {
                // All words of a reply are the power, and so are those of a value: each power has its own value.
                Ok(Value::Float(value)) => {
                    let right = powers.map(|power| {
                        let words = vec![power; usize::from(point.format.width())];
                        let Format::Typed(typed) = &point.format else { unreachable!() };
                        scaled_by(typed, number(typed, &words).unwrap(), power).unwrap()
                    });
                    prop_assert!(right.contains(&Value::Float(value)), "{} is of two moments", value);
                }
                Ok(value) => prop_assert!(false, "{:?}", value),
                Err(NotAValue::ScaleMoved { .. }) => prop_assert!(powers[0] != powers[1] && moves_at < asked),
                Err(why) => prop_assert!(false, "{:?}: {}", point, why),
            }
        }
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
