//! Layouts of steps that were never run: no device is needed.

use super::*;

const PAGE: usize = PAGE_BYTES / 2;

/// `pages` of bf16 that are dropped after so many allocations, outside of any fork.
fn lifetime(pages: usize, dropped: usize) -> Lifetime {
    let request = Request { dtype: DType::BF16, elements: pages * PAGE, branch: Branch::None };
    Lifetime { request, dropped, side: None }
}

fn in_branch(branch: Branch, lifetime: Lifetime) -> Lifetime {
    let side = if let Branch::Side(fork) = branch { Some(fork) } else { lifetime.side };
    Lifetime { request: Request { branch, ..lifetime.request }, side, ..lifetime }
}

fn layout(lifetimes: &[Lifetime]) -> Layout {
    Layout::new(lifetimes).expect("types that ops make")
}

fn overlap(layout: &Layout, a: usize, b: usize) -> bool {
    let range = |index: usize| {
        let Place { page, request } = layout.places[index];
        (request.block().expect("a type that ops make"), page, page + request.pages())
    };
    let ((block, begin, end), (other, from, to)) = (range(a), range(b));
    block == other && begin < to && from < end
}

#[test]
fn what_is_dropped_gives_its_place_to_what_comes_after() {
    // An op's input is dropped after its output was allocated: a chain needs two places.
    let chain: Vec<_> = (0..6).map(|index| lifetime(3, index + 2)).collect();
    assert_eq!(layout(&chain).bytes(), 2 * 3 * PAGE_BYTES);
    let kept: Vec<_> = (0..6).map(|_| lifetime(3, 6)).collect();
    assert_eq!(layout(&kept).bytes(), 6 * 3 * PAGE_BYTES);
}

#[test]
fn types_have_blocks_of_their_own() {
    let mut both = [lifetime(1, 1), lifetime(1, 2)];
    assert_eq!(layout(&both).bytes(), PAGE_BYTES);
    both[1].request.dtype = DType::U8;
    let layout = layout(&both);
    assert_eq!((layout.pages, layout.bytes()), ([0, 1, 1], 2 * PAGE_BYTES));
}

/// What the side branch made or read is needed until the streams have joined, whenever it was dropped.
#[test]
fn the_main_branch_keeps_off_what_the_side_branch_touches() {
    let (side, main) = (Branch::Side(4), Branch::Main(4));
    let before = Lifetime { side: Some(4), ..lifetime(1, 1) };
    let of_side = in_branch(side, lifetime(1, 2));
    let of_main = in_branch(main, lifetime(1, 3));
    let after = lifetime(1, 4);
    let layout = layout(&[before, of_side, of_main, after]);
    assert!(overlap(&layout, 0, 1), "the side branch is in order with itself");
    assert!(!overlap(&layout, 0, 2) && !overlap(&layout, 1, 2));
    assert_eq!(layout.bytes(), 2 * PAGE_BYTES, "after the join all is free again");
}

/// Random steps with forks: what may be needed at the same time never shares a byte, and no layout is worse than none.
#[test]
fn whatever_conflicts_lies_apart() {
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..50 {
        let count = 40 + random(40);
        let lifetimes: Vec<_> = (0..count)
            .map(|index| {
                let fork = index / 10;
                let branch = [Branch::None, Branch::Side(fork), Branch::Main(fork)][index % 10 / 4];
                let dtype = DTYPES[random(3)];
                let request = Request { dtype, elements: random(5 * PAGE), branch };
                let side = (random(4) == 0).then_some(fork);
                in_branch(branch, Lifetime { request, dropped: index + 1 + random(12), side })
            })
            .collect();
        let layout = layout(&lifetimes);
        for (a, first) in lifetimes.iter().enumerate() {
            for (b, second) in lifetimes.iter().enumerate().skip(a + 1) {
                let alive = first.dropped > b;
                let races = matches!(second.request.branch, Branch::Main(fork) if first.side == Some(fork));
                assert!(!(alive || races) || !overlap(&layout, a, b), "{first:?} and {second:?}");
            }
        }
        let apart: usize = lifetimes.iter().map(|one| one.request.pages()).sum();
        assert!(layout.bytes() < apart * PAGE_BYTES);
    }
}
