//! Which of many series a server refuses, found on evidence. Pure.
//!
//! Items are series: one may be passed over, because their order among each other means nothing to a server.
//!
//! 1. **Search.** Items are posted from the first to the last, a *width* of them at a time. A part that is refused is halved,
//!    after one that is accepted the next is twice as wide. An item that is refused alone becomes a *suspect*.
//! 2. **Trial.** When all others are through, each suspect is posted alone, again and again, and before each time something
//!    that the server has accepted before: the *control*, once to three times. A suspect is condemned when it was refused so many
//!    times, each time right after the control was accepted. If the control is refused, or a suspect is accepted, the count
//!    starts anew.
//!
//! So a server that refuses at random condemns nothing: it would have to tell suspect and control apart by chance,
//! [`Trust::needed`] times in a row (at one refusal in two: less than once in 4¹²). Nor does one that refuses each second or third
//! post, as a balancer before one good server and one bad one does: the controls are not as many each time. What contradicts itself (a part that is refused, and then
//! accepted unchanged or piece by piece) doubles that number for an hour.
//!
//! While nothing at all is accepted the server is at fault: there is no control, no trial, and the search starts anew for ever.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// How long an acceptance says that the server is well.
pub(super) const WITNESS: Duration = Duration::from_secs(60);

/// How long a contradiction, or a condemned series, is remembered.
pub(super) const MEMORY: Duration = Duration::from_secs(3_600);

/// So often a suspect is refused before it is condemned.
const REFUSALS: u32 = 12;

/// So often one is refused that was condemned within the last hour: the evidence is there, it may have been mended.
const REFUSALS_OF_KNOWN: u32 = 3;

/// So often the control is accepted before the first, the second … refusal that counts: no period of a balancer fits.
const CONTROLS: [u32; 12] = [1, 2, 1, 3, 2, 1, 2, 3, 1, 1, 3, 2];

/// No more than this is ever needed.
const MOST_REFUSALS: u32 = 48;

/// How far the refusals of a server can be trusted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trust {
    doublings: u32,
    until: Duration,
}

impl Trust {
    /// The server has contradicted itself.
    pub(super) fn contradicted(&mut self, now: Duration) {
        if now >= self.until {
            self.doublings = 0;
        }
        // Bounded for the shift in `needed`; fewer are enough to reach the most.
        self.doublings = (self.doublings + 1).min(8);
        self.until = now + MEMORY;
    }

    /// How often something must be refused to be condemned.
    pub(super) fn needed(self, known: bool, now: Duration) -> u32 {
        let least = if known { REFUSALS_OF_KNOWN } else { REFUSALS };
        let doublings = if now < self.until { self.doublings } else { 0 };
        (least << doublings).min(MOST_REFUSALS)
    }
}

/// What to post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// These items.
    Items(Vec<usize>),
    /// What the server has accepted before.
    Control,
    /// Nothing: every item is accepted or condemned.
    Done,
}

/// A search under way.
#[derive(Debug)]
pub(super) struct Bisection {
    /// What was not posted yet, in order.
    queue: VecDeque<usize>,
    width: usize,
    /// How many have left the queue: the position of its first item.
    position: usize,
    /// Positions of parts that were refused, of which something is still in the queue; the smallest last.
    refused: Vec<Range<usize>>,
    /// Positions of what was refused alone.
    culprits: Vec<usize>,
    suspects: VecDeque<Suspect>,
    /// What was asked for last is a suspect.
    on_trial: bool,
    /// So many answers in a row were acceptances, and when the last of them came.
    witnesses: (u32, Duration),
    condemned: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Suspect {
    item: usize,
    /// It was condemned before.
    known: bool,
    /// Each right after an acceptance.
    refusals: u32,
}

impl Bisection {
    /// So many items, numbered from 0, some of which are `known` to have been condemned before: these are suspects at once.
    pub(super) fn new(items: usize, known: impl Fn(usize) -> bool) -> Self {
        let (suspects, queue): (VecDeque<_>, VecDeque<_>) = (0..items).partition(|&item| known(item));
        Self {
            width: queue.len(),
            queue,
            position: 0,
            refused: Vec::new(),
            culprits: Vec::new(),
            suspects: suspects.into_iter().map(|item| Suspect { item, known: true, refusals: 0 }).collect(),
            on_trial: false,
            witnesses: (0, Duration::ZERO),
            condemned: Vec::new(),
        }
    }

    /// What to post now; `control`: there is something that the server has accepted before.
    pub(super) fn ask(&mut self, control: bool, now: Duration) -> Ask {
        if self.queue.is_empty() && !self.suspects.is_empty() && !control {
            // The server accepts nothing: no evidence either way.
            self.queue = self.suspects.drain(..).map(|suspect| suspect.item).collect();
            self.width = self.queue.len();
        }
        self.on_trial = self.queue.is_empty();
        if !self.on_trial {
            return Ask::Items(self.queue.iter().take(self.width.max(1)).copied().collect());
        }
        match self.suspects.front() {
            None => Ask::Done,
            Some(suspect) if self.is_witnessed(*suspect, now) => Ask::Items(vec![suspect.item]),
            Some(_) => Ask::Control,
        }
    }

    /// The items asked for are accepted: the first `complete` of them wholly, perhaps a part of the next.
    pub(super) fn accepted(&mut self, complete: usize, now: Duration, trust: &mut Trust) {
        self.witness(now);
        if !self.on_trial {
            self.pass(complete, now, trust);
            self.width = self.width.saturating_mul(2);
            return;
        }
        let Some(suspect) = self.suspects.pop_front() else { return };
        // One that was condemned before may have been mended since: that contradicts nothing.
        if !suspect.known {
            trust.contradicted(now);
        }
        // The server takes what it has refused: what it has said of the other suspects counts no more.
        self.forget_refusals();
        // Only a part of it fitted into the post and was accepted: the rest of the item is searched like the others.
        if complete == 0 {
            self.queue.push_back(suspect.item);
            self.width = 1;
        }
    }

    /// The first `complete` of the items asked for hold nothing that could be posted.
    pub(super) fn passed(&mut self, complete: usize, now: Duration, trust: &mut Trust) {
        if !self.on_trial {
            self.pass(complete, now, trust);
        } else if complete > 0 {
            self.suspects.pop_front();
        }
    }

    /// The first `touched` of the items asked for are refused.
    pub(super) fn refused(&mut self, touched: usize, now: Duration, trust: &mut Trust) {
        if self.on_trial {
            self.refused_on_trial(now, *trust);
        } else if touched > 1 {
            self.refused.push(self.position..self.position + touched);
            self.width = touched / 2;
        } else if let Some(&item) = self.queue.front() {
            self.suspects.push_back(Suspect { item, known: false, refusals: 0 });
            self.culprits.push(self.position);
            self.pass(1, now, trust);
            // All the rest at once: where this was the only culprit, one post is enough for it.
            self.width = self.queue.len();
        }
        self.disturbed();
    }

    /// The control was posted.
    pub(super) fn control(&mut self, accepted: bool, now: Duration, trust: &mut Trust) {
        if accepted {
            self.witness(now);
        } else {
            // It refuses what it has accepted.
            trust.contradicted(now);
            self.forget_refusals();
            self.disturbed();
        }
    }

    /// Something failed: what was accepted before says nothing about what comes next.
    pub(super) fn disturbed(&mut self) {
        self.witnesses = (0, Duration::ZERO);
    }

    /// Whether a suspect or the control was asked for last.
    pub(super) fn is_on_trial(&self) -> bool {
        self.on_trial
    }

    /// What the server refuses, though it takes others.
    pub(super) fn condemned(&self) -> &[usize] {
        &self.condemned
    }

    fn witness(&mut self, now: Duration) {
        self.witnesses = (self.witnesses.0.saturating_add(1), now);
    }

    /// Whether a refusal of the suspect counts.
    fn is_witnessed(&self, suspect: Suspect, now: Duration) -> bool {
        let (witnesses, last) = self.witnesses;
        // Of a server that contradicts itself more refusals are needed than there are numbers: they begin anew.
        let needed = CONTROLS.iter().cycle().nth(suspect.refusals as usize).copied().unwrap_or(1);
        witnesses >= needed && now.saturating_sub(last) <= WITNESS
    }

    fn refused_on_trial(&mut self, now: Duration, trust: Trust) {
        let witnessed = self.suspects.front().is_some_and(|&suspect| self.is_witnessed(suspect, now));
        // Without controls right before it, the server may have been unwell: such a refusal counts neither way.
        let Some(suspect) = self.suspects.front_mut().filter(|_| witnessed) else { return };
        suspect.refusals += 1;
        if suspect.refusals >= trust.needed(suspect.known, now) {
            self.condemned.push(suspect.item);
            self.suspects.pop_front();
        }
    }

    fn forget_refusals(&mut self) {
        self.suspects.iter_mut().for_each(|suspect| suspect.refusals = 0);
    }

    /// Takes items from the queue, and judges the refused parts that end with them.
    fn pass(&mut self, items: usize, now: Duration, trust: &mut Trust) {
        let items = items.min(self.queue.len());
        self.queue.drain(..items);
        self.position += items;
        while let Some(part) = self.refused.pop_if(|part| part.end <= self.position) {
            if !self.culprits.iter().any(|culprit| part.contains(culprit)) {
                // Refused as a whole, accepted piece by piece.
                trust.contradicted(now);
            }
        }
        if self.refused.is_empty() {
            self.culprits.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Duration = Duration::from_secs(7_200);

    /// What became of a search.
    struct Outcome {
        accepted: Vec<usize>,
        condemned: BTreeSet<usize>,
        posts: usize,
        done: bool,
    }

    /// Posts for at most `posts` attempts, `pause` apart; `refuses` says what becomes of a post.
    fn search(
        mut bisection: Bisection,
        posts: usize,
        pause: Duration,
        mut refuses: impl FnMut(&[usize]) -> bool,
    ) -> Outcome {
        let (mut now, mut trust, mut accepted) = (START, Trust::default(), Vec::new());
        for post in 0..posts {
            match bisection.ask(!accepted.is_empty(), now) {
                Ask::Done => {
                    let condemned = bisection.condemned().iter().copied().collect();
                    return Outcome { accepted, condemned, posts: post, done: true };
                }
                Ask::Control => {
                    let taken = !refuses(&accepted[..1]);
                    bisection.control(taken, now, &mut trust);
                }
                Ask::Items(items) if refuses(&items) => bisection.refused(items.len(), now, &mut trust),
                Ask::Items(items) => {
                    bisection.accepted(items.len(), now, &mut trust);
                    accepted.extend(items);
                }
            }
            now += pause;
        }
        Outcome { accepted, condemned: bisection.condemned().iter().copied().collect(), posts, done: false }
    }

    fn all(items: usize) -> Bisection {
        Bisection::new(items, |_| false)
    }

    #[test]
    fn one_poisoned_item_is_found_in_few_posts() {
        for poison in [0, 1, 499, 500, 4_998, 4_999] {
            let outcome = search(all(5_000), 1_000, SECOND, |items| items.contains(&poison));
            assert_eq!(outcome.condemned, BTreeSet::from([poison]));
            assert_eq!(outcome.accepted.len(), 4_999);
            assert!(outcome.posts <= 70, "{} posts for {poison}", outcome.posts);
        }
    }

    #[test]
    fn one_known_to_be_poisoned_takes_few_posts_more_and_may_have_been_mended() {
        let known = || Bisection::new(5_000, |item| item == 7);
        let outcome = search(known(), 1_000, SECOND, |items| items.contains(&7));
        assert_eq!((outcome.condemned, outcome.posts), (BTreeSet::from([7]), 7));
        let outcome = search(known(), 1_000, SECOND, |_| false);
        assert_eq!((outcome.condemned, outcome.posts, outcome.accepted.len()), (BTreeSet::new(), 2, 5_000));
    }

    #[test]
    fn a_server_that_refuses_everything_condemns_nothing() {
        let mut posts = 0;
        let outcome = search(all(7), 20_000, 60 * SECOND, |_| {
            posts += 1;
            posts <= 10_080
        });
        assert!(outcome.done && outcome.condemned.is_empty());
        assert_eq!(outcome.accepted.len(), 7);
    }

    #[test]
    fn an_only_item_is_never_condemned_without_a_control() {
        let outcome = search(all(1), 10_000, SECOND, |_| true);
        assert!(!outcome.done && outcome.condemned.is_empty());
    }

    /// Every seed is a minute of its own; 1 in 10 to 9 in 10 posts are refused.
    #[test]
    fn random_refusals_condemn_nothing() {
        for seed in 0..5_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (items, share) = (random.usize(1..40), random.f64().mul_add(0.8, 0.1));
            let outcome = search(all(items), 240, SECOND / 4, |_| random.f64() < share);
            assert!(outcome.condemned.is_empty(), "seed {seed}");
        }
    }

    /// A balancer before servers some of which refuse everything.
    #[test]
    fn refusals_in_turn_condemn_nothing() {
        for servers in 2..8_u32 {
            for bad in 1..(1_u32 << servers) - 1 {
                for items in [1, 2, 3, 10, 40] {
                    let mut post = 0;
                    let outcome = search(all(items), 2_000, SECOND, |_| {
                        post += 1;
                        bad >> (post % servers) & 1 == 1
                    });
                    assert!(outcome.condemned.is_empty(), "{servers} servers, bad {bad:b}, {items} items");
                }
            }
        }
    }

    #[test]
    fn poison_is_found_through_random_refusals() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let outcome = search(all(40), 200_000, SECOND / 4, |items| items.contains(&20) || random.f64() < 0.05);
            assert_eq!((outcome.done, outcome.condemned), (true, BTreeSet::from([20])), "seed {seed}");
        }
    }

    #[test]
    fn contradictions_count_for_an_hour() {
        let mut trust = Trust::default();
        assert_eq!([trust.needed(false, START), trust.needed(true, START)], [12, 3]);
        trust.contradicted(START);
        assert_eq!([trust.needed(false, START), trust.needed(true, START)], [24, 6]);
        (0..50).for_each(|_| trust.contradicted(START));
        assert_eq!(trust.needed(true, START), 48);
        assert_eq!(trust.needed(false, START + MEMORY), 12);
    }

    #[test]
    fn a_part_accepted_piece_by_piece_is_a_contradiction() {
        let (mut bisection, mut trust) = (all(4), Trust::default());
        bisection.ask(false, START);
        bisection.refused(4, START, &mut trust);
        for items in [vec![0, 1], vec![2, 3]] {
            assert_eq!(bisection.ask(true, START), Ask::Items(items));
            assert_eq!(trust.needed(false, START), 12);
            bisection.accepted(2, START, &mut trust);
        }
        assert_eq!(trust.needed(false, START), 24);
    }

    #[test]
    fn an_item_of_several_posts_goes_on_where_it_was() {
        let (mut bisection, mut trust) = (all(3), Trust::default());
        bisection.ask(false, START);
        bisection.accepted(1, START, &mut trust);
        assert_eq!(bisection.ask(true, START), Ask::Items(vec![1, 2]));
        bisection.accepted(0, START, &mut trust);
        assert_eq!(bisection.ask(true, START), Ask::Items(vec![1, 2]));
    }

    proptest! {
        #[test]
        fn only_poison_is_condemned_and_all_of_it(
            items in 2..300usize,
            poison in proptest::collection::btree_set(0..300usize, 0..6),
            step in 0..20_000u64,
        ) {
            let poison: BTreeSet<_> = poison.into_iter().filter(|item| *item < items).collect();
            prop_assume!(poison.len() < items);
            let refuses = |asked: &[usize]| asked.iter().any(|item| poison.contains(item));
            let outcome = search(all(items), 10_000, Duration::from_millis(step), refuses);
            prop_assert!(outcome.done);
            prop_assert_eq!(&outcome.condemned, &poison);
            prop_assert_eq!(outcome.accepted.len() + poison.len(), items);
            let accepted: BTreeSet<_> = outcome.accepted.iter().collect();
            prop_assert_eq!(accepted.len(), outcome.accepted.len(), "nothing is delivered twice");
            prop_assert!(outcome.posts <= 2 * items + 60 + poison.len() * 36);
        }
    }
}
