//! Requests by example, and what holds for the plans of arbitrary points.

use proptest::prelude::*;

use super::*;
use crate::modbus::format::{Kind, Scale, Typed};
use crate::modbus::register::Reference;

fn point(id: u32, unit: u8, table: Table, number: i64) -> Point {
    Point {
        id: PointId(id),
        unit: UnitId(unit),
        reference: Reference::new(table, number).unwrap(),
        format: Format::Word(Scale::Times(f64::from(id))),
        together: None,
    }
}

/// A value of 2 or 4 registers, scaled by the power of ten at an address.
fn typed(id: u32, table: Table, number: i64, kind: Kind, scale_address: Option<u16>) -> Point {
    let format = Format::Typed(Typed { scale_address, ..Typed::plain(kind) }.into());
    Point { format, ..point(id, 0, table, number) }
}

/// A block in the words of [`Shape`]; a power of ten has the id 999.
fn id(at: &BlockPoint) -> u32 {
    match at.reads {
        Reads::Value(id, _) => id.0,
        Reads::PowerOfTen => 999,
    }
}

/// (unit, table, address, quantity, [(id, offset)])
type Shape = (u8, Table, u16, u16, Vec<(u32, u16)>);

fn shape(block: &Block) -> Shape {
    let points = block.points.iter().map(|p| (id(p), p.offset)).collect();
    (block.unit.0, block.table, block.address, block.quantity, points)
}

#[test]
fn touching_registers_share_a_request_and_nothing_else_does() {
    use Table::{HoldingRegisters as H, InputRegisters as I};
    let cases: [(&str, Vec<Point>, Vec<Shape>); 7] = [
        ("nothing to read", vec![], vec![]),
        (
            "a run in any order",
            vec![point(0, 0, I, 30_003), point(1, 0, I, 30_001), point(2, 0, I, 30_002)],
            vec![(0, I, 0, 3, vec![(1, 0), (2, 1), (0, 2)])],
        ),
        (
            "a gap of one register is not bridged",
            vec![point(0, 0, I, 30_001), point(1, 0, I, 30_003)],
            vec![(0, I, 0, 1, vec![(0, 0)]), (0, I, 2, 1, vec![(1, 0)])],
        ),
        (
            "one address, two reference numbers and two targets",
            vec![point(0, 0, I, 30_001), point(1, 0, I, 300_001), point(2, 0, I, 30_001), point(3, 0, I, 30_002)],
            vec![(0, I, 0, 2, vec![(0, 0), (1, 0), (2, 0), (3, 1)])],
        ),
        (
            "tables do not mix, input registers first",
            vec![point(0, 0, H, 40_002), point(1, 0, I, 30_001)],
            vec![(0, I, 0, 1, vec![(1, 0)]), (0, H, 1, 1, vec![(0, 0)])],
        ),
        (
            "units do not mix",
            vec![point(0, 2, I, 30_001), point(1, 1, I, 30_002)],
            vec![(1, I, 1, 1, vec![(1, 0)]), (2, I, 0, 1, vec![(0, 0)])],
        ),
        (
            "the last register of a table",
            vec![point(0, 0, H, 465_535), point(1, 0, H, 465_536)],
            vec![(0, H, 65_534, 2, vec![(0, 0), (1, 1)])],
        ),
    ];
    for (name, points, expected) in cases {
        let blocks = plan(&points, Limits::default());
        assert_eq!(blocks.iter().map(shape).collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn a_value_of_several_registers_is_in_one_request() {
    use Kind::{Float64, Uint32};
    use Table::{Coils as C, HoldingRegisters as H};
    let limits = Limits::new(4).unwrap();
    let cases: [(&str, Limits, Vec<Point>, Vec<Shape>); 5] = [
        (
            "values that touch, up to the limit",
            limits,
            vec![typed(0, H, 40_001, Uint32, None), typed(1, H, 40_003, Uint32, None), point(2, 0, H, 40_005)],
            vec![(0, H, 0, 4, vec![(0, 0), (1, 2)]), (0, H, 4, 1, vec![(2, 0)])],
        ),
        (
            "a value is not cut at the limit",
            limits,
            vec![point(0, 0, H, 40_001), typed(1, H, 40_002, Float64, None)],
            vec![(0, H, 0, 1, vec![(0, 0)]), (0, H, 1, 4, vec![(1, 0)])],
        ),
        (
            "values that overlap",
            limits,
            vec![typed(0, H, 40_001, Uint32, None), typed(1, H, 40_002, Uint32, None)],
            vec![(0, H, 0, 3, vec![(0, 0), (1, 1)])],
        ),
        (
            "gaps as long as they may be",
            Limits::default().with_gap(2),
            vec![point(0, 0, H, 40_001), point(1, 0, H, 40_004), point(2, 0, H, 40_008)],
            vec![(0, H, 0, 4, vec![(0, 0), (1, 3)]), (0, H, 7, 1, vec![(2, 0)])],
        ),
        (
            "more bits than registers",
            limits,
            (0..5).map(|n| point(n, 0, C, 1 + i64::from(n))).collect(),
            vec![(0, C, 0, 5, (0..5).map(|n| (n, u16::try_from(n).unwrap())).collect())],
        ),
    ];
    for (name, limits, points, expected) in cases {
        let blocks = plan(&points, limits);
        assert_eq!(blocks.iter().map(shape).collect::<Vec<_>>(), expected, "{name}");
    }
}

/// Values of so many registers from a number on, most of them with the number of their scale register; ids from 0.
fn scaled(values: &[(i64, u16, Option<u16>)]) -> Vec<Point> {
    let one = |(id, &(number, width, scale)): (u32, &(i64, u16, Option<u16>))| {
        let kind = if width == 1 { Kind::Uint16 } else { Kind::Uint32 };
        typed(id, Table::HoldingRegisters, number, kind, scale.map(|number| number - 40_001))
    };
    (0..).zip(values).map(one).collect()
}

/// First number, how many, and what is read at which offset: the value of an id, or a scale register.
fn told(blocks: &[Block]) -> Vec<String> {
    let at = |at: &BlockPoint| match at.reads {
        Reads::Value(id, _) => format!(" {}@{}", id.0, at.offset),
        Reads::PowerOfTen => format!(" scale@{}", at.offset),
    };
    let one = |it: &Block| {
        format!(
            "{}+{}:{}",
            it.table.number_of(it.address),
            it.quantity,
            it.points.iter().map(at).collect::<Vec<_>>().concat()
        )
    };
    blocks.iter().map(one).collect()
}

/// A case: its name, the longest request, values, requests, requests at the end of the poll.
type Case<'a> = (&'a str, u16, &'a [(i64, u16, Option<u16>)], &'a [&'a str], &'a [&'a str]);

fn assert_planned(cases: &[Case<'_>]) {
    for (name, most, values, expected, again) in cases {
        let blocks = plan(&scaled(values), Limits::new(*most).unwrap());
        assert_eq!((told(&blocks), told(&rechecks(&blocks))), (strings(expected), strings(again)), "{name}");
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// A17: a value and the register that scales it, and what lies between.
#[test]
fn a_value_and_its_scale_register_share_a_request_if_they_fit() {
    let chain =
        &[(40_001, 1, Some(40_010)), (40_008, 1, Some(40_010)), (40_012, 1, Some(40_010)), (40_019, 1, Some(40_010))];
    assert_planned(&[
        ("model 160", 125, &[(40_275, 1, Some(40_256))], &["40256+20: scale@0 0@19"], &[]),
        (
            "a scale register of two values that a third reads as its own",
            125,
            &[(40_001, 1, Some(40_002)), (40_004, 1, Some(40_002)), (40_002, 1, None)],
            &["40001+4: 0@0 scale@1 2@1 1@3"],
            &[],
        ),
        (
            "what lies between is read as well, and what lies behind is not",
            125,
            &[(40_001, 1, Some(40_010)), (40_005, 1, None), (40_012, 1, None)],
            &["40001+10: 0@0 1@4 scale@9", "40012+1: 2@0"],
            &[],
        ),
        ("just fits, before it", 10, &[(40_001, 2, Some(40_010))], &["40001+10: 0@0 scale@9"], &[]),
        ("just fits, behind it", 10, &[(40_009, 2, Some(40_001))], &["40001+10: scale@0 0@8"], &[]),
        ("both sides: two requests", 10, chain, &["40001+10: 0@0 1@7 scale@9", "40010+10: scale@0 2@2 3@9"], &[]),
    ]);
}

/// A17: a scale register that is too far away is read before the value, and again when all is read.
#[test]
fn a_value_too_far_from_its_scale_register_is_read_between_two_readings_of_it() {
    let ladder: Vec<_> = (0..4).map(|n| (40_005 + 5 * n, 1, Some(40_001))).collect();
    let crossed =
        &[(40_001, 1, Some(40_002)), (40_003, 1, Some(40_032)), (40_031, 1, Some(40_032)), (40_033, 1, Some(40_002))];
    assert_planned(&[
        ("behind it", 10, &[(40_010, 2, Some(40_001))], &["40001+1: scale@0", "40010+2: 0@0"], &["40001+1: scale@0"]),
        (
            "before it: the higher address comes first",
            10,
            &[(40_001, 2, Some(40_011)), (40_012, 1, None)],
            &["40011+2: scale@0 1@1", "40001+2: 0@0"],
            &["40011+1: scale@0"],
        ),
        (
            "the near ones with it, the far ones apart",
            10,
            &ladder,
            &["40001+10: scale@0 0@4 1@9", "40015+1: 2@0", "40020+1: 3@0"],
            &["40001+1: scale@0"],
        ),
        (
            "scale registers that touch share a request",
            10,
            &[(40_021, 1, Some(40_001)), (40_022, 1, Some(40_002))],
            &["40001+2: scale@0 scale@1", "40021+2: 0@0 1@1"],
            &["40001+2: scale@0 scale@1"],
        ),
        (
            "requests may be of one register only",
            1,
            &[(40_021, 1, Some(40_001)), (40_022, 1, Some(40_002))],
            &["40001+1: scale@0", "40002+1: scale@0", "40021+1: 0@0", "40022+1: 1@0"],
            &["40001+1: scale@0", "40002+1: scale@0"],
        ),
        (
            "two that wait for each other: one scale register alone before both, and none after the first of them",
            10,
            crossed,
            &["40002+1: scale@0", "40031+3: 2@0 scale@1 3@2", "40001+3: 0@0 scale@1 1@2"],
            &["40032+1: scale@0"],
        ),
    ]);
}

/// Values, the longest request, an address that is refused, the requests.
type Parted<'a> = (&'a [(i64, u16, Option<u16>)], u16, Option<u16>, &'a [&'a str]);

/// A device that takes no gaps or only short requests is asked for parts of a block.
#[test]
fn pieces_keep_a_value_with_its_scale_register_where_the_device_allows_it() {
    let run: Vec<_> = (0..6).map(|n| (40_001 + n, 1, Some(40_007))).collect();
    let gap = [(40_001, 1, Some(40_010)), (40_009, 1, Some(40_010))];
    let circle = [(40_001, 1, Some(40_003)), (40_004, 1, Some(40_006)), (40_005, 1, Some(40_002))];
    let cases: [Parted<'_>; 6] = [
        (&run, 7, None, &["40001+7: 0@0 1@1 2@2 3@3 4@4 5@5 scale@6"]),
        (&run, 4, None, &["40004+4: 3@0 4@1 5@2 scale@3", "40001+3: 0@0 1@1 2@2"]),
        (&run, u16::MAX, Some(3), &["40005+3: 4@0 5@1 scale@2", "40001+3: 0@0 1@1 2@2"]),
        (&gap, u16::MAX, None, &["40009+2: 1@0 scale@1", "40001+1: 0@0"]),
        (&gap, u16::MAX, Some(9), &["40001+1: 0@0", "40009+1: 1@0"]),
        // Each waits for the next one and the last one for the first: one scale register is read alone before them.
        (
            &circle,
            2,
            None,
            &["40002+1: scale@0", "40005+2: 2@0 scale@1", "40003+2: scale@0 1@1", "40001+2: 0@0 scale@1"],
        ),
    ];
    for (values, longest, refused, expected) in cases {
        let blocks = plan(&scaled(values), Limits::default());
        assert_eq!(blocks.len(), 1, "{values:?}");
        let pieces = blocks[0].pieces(longest, |span| Some(span.address) != refused);
        assert_eq!(told(&pieces), strings(expected), "{values:?} {longest} {refused:?}");
    }
}

#[test]
fn what_is_read_together_is_in_one_request_with_whatever_lies_between_and_with_nothing_else() {
    use Table::{Coils as C, HoldingRegisters as H};
    let of = |group, point| Point { together: Some(group), ..point };
    let scaled = of(7, typed(2, H, 40_090, Kind::Uint16, Some(0)));
    let points = [
        of(7, point(0, 0, H, 40_003)),
        of(7, point(1, 0, H, 40_080)),
        scaled,
        of(7, point(3, 0, C, 9)),
        of(8, point(4, 0, H, 40_004)),
        point(5, 0, H, 40_002),
        point(6, 0, H, 40_004),
    ];
    let blocks = plan(&points, Limits::new(20).unwrap());
    let shapes: Vec<_> = blocks.iter().map(|block| (shape(block), block.whole)).collect();
    let expected = [
        ((0, H, 0, 90, vec![(999, 0), (0, 2), (1, 79), (2, 89)]), true),
        ((0, H, 1, 1, vec![(5, 0)]), false),
        ((0, H, 3, 1, vec![(6, 0)]), false),
        ((0, H, 3, 1, vec![(4, 0)]), true),
        ((0, C, 8, 1, vec![(3, 0)]), true),
    ];
    assert_eq!(shapes, expected);
}

#[test]
fn a_long_run_is_cut_at_the_limit() {
    let points: Vec<_> = (0..251).map(|i| point(i, 0, Table::HoldingRegisters, 400_001 + i64::from(i))).collect();
    for (limit, expected) in [(125, vec![(0, 125), (125, 125), (250, 1)]), (100, vec![(0, 100), (100, 100), (200, 51)])]
    {
        let blocks = plan(&points, Limits::new(limit).unwrap());
        let runs: Vec<_> = blocks.iter().map(|b| (b.address, b.quantity)).collect();
        assert_eq!(runs, expected);
    }
}

#[test]
fn spots_are_told_as_runs_of_reference_numbers() {
    let span = |address, width| Span { unit: UnitId(1), table: Table::HoldingRegisters, address, width };
    let spans = [span(0, 1), span(1, 2), span(2, 1), span(9, 1), span(9_998, 2), span(20_000, 1)];
    assert_eq!(runs(spans), ["40001-40003", "40010", "49999-50000", "420001"]);
}

#[test]
fn limits_admit_what_the_protocol_admits() {
    for (max, admitted) in [(0, false), (1, true), (125, true), (126, false)] {
        assert_eq!(Limits::new(max).is_some(), admitted, "{max}");
    }
}

/// Points of few units and all widths, crowded where runs, duplicates and the end of a table are likely.
fn points() -> impl Strategy<Value = Vec<Point>> {
    let address = prop_oneof![0_i64..300, 65_400_i64..65_532, 0_i64..65_532];
    let kind = prop_oneof![Just(Kind::Uint16), Just(Kind::Uint32), Just(Kind::Float64), Just(Kind::Bcd(4))];
    let one = (0_u8..3, 0_usize..4, address, kind, prop::option::weighted(0.2, 0_u16..300));
    prop::collection::vec(one, 0..600).prop_map(|ones| {
        (0..)
            .zip(ones)
            .map(|(id, (unit, table, address, kind, scale_address))| {
                let bases = [300_001, 400_001, 1, 100_001];
                let plain = point(id, unit, Table::ALL[table], bases[table] + address);
                if plain.reference.table().is_bits() {
                    return plain;
                }
                Point { format: Format::Typed(Typed { scale_address, ..Typed::plain(kind) }.into()), ..plain }
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn every_point_is_read_once_whole_and_with_its_scale_register(
        points in points(), max in 4_u16..=125, gap in prop_oneof![Just(0_u16), 0_u16..9]
    ) {
        let limits = Limits::new(max).unwrap().with_bits(max * 2).unwrap().with_gap(gap);
        let blocks = plan(&points, limits);
        let again = rechecks(&blocks);
        let mut seen = vec![0; points.len()];
        for (place, block) in blocks.iter().enumerate() {
            prop_assert!((1..=limits.of(block.table)).contains(&block.quantity));
            prop_assert!(u32::from(block.address) + u32::from(block.quantity) <= 65_536);
            for at in &block.points {
                prop_assert!(at.offset + at.width <= block.quantity);
                let Reads::Value(id, format) = &at.reads else { continue };
                let point = &points[id.index()];
                seen[id.index()] += 1;
                prop_assert_eq!(point.unit, block.unit);
                prop_assert_eq!(point.reference.table(), block.table);
                prop_assert_eq!(point.reference.address(), block.address + at.offset);
                prop_assert_eq!(&point.format, format);
                prop_assert_eq!(format.width(), at.width);
                if let Some(address) = format.scale_address() {
                    let begin = block.address + at.offset;
                    let (first, last) = (address.min(begin), address.max(begin + at.width - 1));
                    let fits = last - first < limits.of(block.table);
                    let is_read_by = |other: &Block| {
                        (other.unit, other.table) == (block.unit, block.table)
                            && other.scale_registers().any(|scale| scale.address == address)
                    };
                    // In the same request, or before it and after it.
                    prop_assert_eq!(is_read_by(block), fits);
                    prop_assert!(fits || blocks[..place].iter().any(is_read_by));
                    prop_assert!(fits || blocks[place..].iter().chain(&again).any(is_read_by));
                }
            }
            // No longer run of entries is asked for that nobody wants than a gap may be, but for those between a value
            // and its scale register.
            let mut unwanted = 0;
            for offset in 0..block.quantity {
                let wanted = block.points.iter().any(|at| {
                    let scale = match &at.reads {
                        Reads::Value(_, format) => format.scale_address().and_then(|it| it.checked_sub(block.address)),
                        Reads::PowerOfTen => None,
                    };
                    let scale = scale.filter(|scale| *scale < block.quantity).unwrap_or(at.offset);
                    (at.offset.min(scale)..(at.offset + at.width).max(scale + 1)).contains(&offset)
                });
                unwanted = if wanted { 0 } else { unwanted + 1 };
                prop_assert!(unwanted <= gap);
            }
            // A block has a scale register once.
            prop_assert!(block.scale_registers().map(|scale| scale.address).is_sorted_by(|a, b| a < b));
            prop_assert!(block.points.is_sorted_by_key(|at| at.offset));
        }
        prop_assert!(seen.iter().all(|&times| times == 1));
    }

    #[test]
    fn the_order_of_the_points_does_not_matter(
        (points, shuffled) in points().prop_flat_map(|p| (Just(p.clone()), Just(p).prop_shuffle()))
    ) {
        prop_assert_eq!(plan(&points, Limits::default()), plan(&shuffled, Limits::default()));
    }

    /// They are places in the configuration.
    #[test]
    fn the_numbers_of_what_is_read_together_do_not_matter(
        points in points(),
        groups in prop::collection::vec(prop::option::of(0_u32..5), 600),
        other in Just([0_u32, 1, 2, 3, 4]).prop_shuffle(),
    ) {
        // Together: what is within one request.
        let group =
            |point: &Point, group: Option<u32>| group.map(|it| it + 5 * u32::from(point.reference.address() / 50));
        let grouped = |number: &dyn Fn(u32) -> u32| -> Vec<Point> {
            let each = points.iter().zip(&groups);
            each.map(|(point, &of)| Point { together: group(point, of.map(number)), ..point.clone() }).collect()
        };
        let (one, two) = (grouped(&|it| it), grouped(&|it| other[it as usize]));
        prop_assert_eq!(plan(&one, Limits::default()), plan(&two, Limits::default()));
    }

    /// What a device makes of a block: every value of it once, whole, none too long, scale registers first.
    #[test]
    fn pieces_read_what_is_kept_and_nothing_else(
        points in points(),
        max in 4_u16..=125,
        longest in prop_oneof![4_u16..=125, Just(u16::MAX)],
        holes in prop::collection::btree_set(0_u16..300, 0..9),
    ) {
        let keep = |Span { address, width, .. }: Span| {
            !(address..address.saturating_add(width)).any(|address| holes.contains(&address))
        };
        for block in plan(&points, Limits::new(max).unwrap()) {
            let pieces = block.pieces(longest, keep);
            let mut kept: Vec<_> = block.values_at(keep).collect();
            let wanted: Vec<Span> = block.spans().into_iter().filter(|span| keep(*span)).collect();
            let mut read: Vec<_> = pieces.iter().flat_map(Block::values).collect();
            kept.sort_unstable();
            read.sort_unstable();
            prop_assert_eq!(kept, read);
            for (place, piece) in pieces.iter().enumerate() {
                prop_assert!((1..=longest).contains(&piece.quantity));
                prop_assert!(piece.spans().iter().all(|span| wanted.contains(span)));
                // What another piece reads may lie between a value and its scale register: where a wide value covers
                // that register, and is itself too long for this piece.
                let is_wanted = |offset| {
                    let address = piece.address + offset;
                    wanted.iter().any(|span| (span.address..=span.address + (span.width - 1)).contains(&address))
                };
                prop_assert!((0..piece.quantity).all(is_wanted), "no gaps");
                let is_read = |block: &Block, scale: Span| block.spans().contains(&scale);
                for scale in piece.scale_registers_elsewhere().filter(|scale| keep(*scale) && is_read(&block, *scale)) {
                    prop_assert!(pieces[..place].iter().any(|piece| is_read(piece, scale)));
                }
            }
        }
    }
}
