use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use proptest::prelude::*;

use super::*;

type Queue = FairQueue<u8, u64>;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn limits(per_user: u32, total: u32, queue: usize) -> Limits {
    Limits {
        per_user,
        total,
        queue,
        aging: secs(1_000_000),
    }
}

fn submit(queue: &mut Queue, user: u8, lane: usize, item: u64) -> Submitted<u64> {
    queue.submit(user, lane, Duration::ZERO, item)
}

fn started(queue: &mut Queue) -> Vec<u64> {
    std::iter::from_fn(|| queue.next(Duration::ZERO))
        .map(|started| started.item)
        .collect()
}

#[test]
fn a_lone_query_starts_at_once_and_leaves_nothing_behind() {
    let mut queue = Queue::new(Limits::default());
    assert_eq!(submit(&mut queue, 1, 1, 7), Submitted::Started(7));
    assert_eq!(
        (queue.in_use(), queue.in_use_by(&1), queue.waiting()),
        (1, 1, 0)
    );
    queue.release(&1);
    queue.release(&1);
    queue.release(&9);
    assert_eq!((queue.in_use(), queue.in_use_by(&1)), (0, 0));
    assert!(queue.users.is_empty());
}

#[test]
fn a_query_behind_another_users_thousand_starts_at_the_next_release() {
    let mut queue = Queue::new(limits(3, 3, 2000));
    for item in 0..1003 {
        submit(&mut queue, 1, 0, item);
    }
    submit(&mut queue, 2, 0, 5000);
    queue.release(&1);
    assert_eq!(started(&mut queue), [5000]);
}

#[test]
fn a_user_at_its_limit_does_not_hold_up_others() {
    let mut queue = Queue::new(limits(2, 10, 100));
    for item in 0..20 {
        submit(&mut queue, 1, 0, item);
    }
    assert_eq!(submit(&mut queue, 2, 2, 100), Submitted::Started(100));
    assert_eq!(queue.in_use(), 3);
    assert_eq!(queue.waiting(), 18);
}

#[test]
fn users_take_turns_and_lanes_are_strict() {
    let mut queue = Queue::new(limits(9, 1, 100));
    submit(&mut queue, 9, 0, 0);
    for (user, lane, item) in [
        (1, 2, 20),
        (1, 1, 10),
        (1, 1, 11),
        (1, 1, 12),
        (2, 1, 13),
        (3, 1, 14),
        (3, 0, 1),
    ] {
        submit(&mut queue, user, lane, item);
    }
    let mut order = Vec::new();
    let mut holder = 9;
    for _ in 0..7 {
        queue.release(&holder);
        let next = queue.next(Duration::ZERO).unwrap();
        holder = next.user;
        order.push(next.item);
    }
    assert_eq!(order, [1, 10, 13, 14, 11, 12, 20]);
}

#[test]
fn an_entry_ages_one_lane_at_a_time_and_remembers_how_long_it_waited() {
    let mut queue = Queue::new(Limits {
        per_user: 1,
        total: 1,
        queue: 10,
        aging: secs(10),
    });
    queue.submit(1, 0, secs(0), 0);
    queue.submit(1, 2, secs(0), 1);
    let depths = |queue: &Queue| [queue.depth(0), queue.depth(1), queue.depth(2)];
    for (at, expected) in [
        (9, [0, 0, 1]),
        (10, [0, 1, 0]),
        (19, [0, 1, 0]),
        (20, [1, 0, 0]),
    ] {
        assert_eq!(queue.next(secs(at)), None);
        assert_eq!(depths(&queue), expected, "at {at} s");
    }
    queue.release(&1);
    let next = queue.next(secs(25)).unwrap();
    assert_eq!((next.lane, next.waited, next.item), (2, secs(25), 1));
}

#[test]
fn an_entry_due_twice_after_a_long_silence_rises_twice() {
    let mut queue = Queue::new(Limits {
        per_user: 1,
        total: 1,
        queue: 10,
        aging: secs(10),
    });
    queue.submit(1, 0, secs(0), 0);
    queue.submit(1, 2, secs(0), 1);
    assert_eq!(queue.next(secs(21)), None);
    assert_eq!(queue.depth(0), 1);
}

#[test]
fn a_full_queue_drops_the_greediest_users_last_entry_of_its_lowest_lane() {
    let mut queue = Queue::new(limits(1, 1, 4));
    submit(&mut queue, 9, 0, 0);
    for (lane, item) in [(2, 1), (2, 2), (1, 3), (0, 4)] {
        submit(&mut queue, 1, lane, item);
    }
    let displaced = |submitted| match submitted {
        Submitted::Queued { displaced, .. } => displaced.map(|(_, item)| item),
        other => panic!("{other:?}"),
    };
    assert_eq!(displaced(submit(&mut queue, 2, 1, 10)), Some(2));
    assert_eq!(displaced(submit(&mut queue, 2, 1, 11)), Some(1));
    // Two against two: nobody is greedier than the newcomer would be.
    assert_eq!(submit(&mut queue, 2, 1, 12), Submitted::Refused(12));
    assert_eq!(submit(&mut queue, 1, 1, 13), Submitted::Refused(13));
    // Of two equally greedy, who has been so for longer.
    assert_eq!(displaced(submit(&mut queue, 3, 2, 14)), Some(3));
    assert_eq!(queue.waiting(), 4);
}

#[test]
fn an_urgent_newcomer_displaces_a_batch_entry_of_its_own_or_of_an_equal() {
    let mut queue = Queue::new(limits(1, 1, 2));
    submit(&mut queue, 9, 0, 0);
    submit(&mut queue, 1, 2, 1);
    submit(&mut queue, 2, 2, 2);
    let displaced = |submitted| match submitted {
        Submitted::Queued {
            displaced: Some((_, item)),
            ..
        } => item,
        other => panic!("{other:?}"),
    };
    assert_eq!(submit(&mut queue, 1, 1, 3), Submitted::Refused(3));
    assert_eq!(displaced(submit(&mut queue, 1, 0, 4)), 1);
    assert_eq!(displaced(submit(&mut queue, 1, 0, 5)), 2);
    assert_eq!(submit(&mut queue, 1, 0, 6), Submitted::Refused(6));
}

#[test]
fn how_long_somebody_waits_at_least_is_told_by_its_own_and_by_others_only_where_all_is_taken() {
    let mut queue = Queue::new(limits(1, 2, 100));
    for item in 0..9 {
        submit(&mut queue, 1, 1, item);
    }
    assert_eq!(
        queue.least_wait(&1, 1, secs(4)),
        secs(0),
        "nothing is known of it"
    );
    queue.release_after(&1, secs(2));
    assert_eq!(started(&mut queue), [1]);
    assert_eq!(queue.least_wait(&1, 1, secs(4)), secs(6 * 2));
    submit(&mut queue, 2, 1, 20);
    submit(&mut queue, 3, 1, 30);
    assert_eq!(queue.least_wait(&3, 1, secs(4)), secs(0));
    submit(&mut queue, 4, 1, 40);
    assert_eq!(
        queue.least_wait(&4, 1, secs(4)),
        secs(2),
        "behind another one, at two places"
    );
}

fn ticket(submitted: Submitted<u64>) -> u64 {
    match submitted {
        Submitted::Queued { ticket, .. } => ticket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_can_hardly_make_it_goes_last_and_is_the_first_to_leave_a_full_queue() {
    let mut queue = Queue::new(limits(9, 1, 4));
    submit(&mut queue, 9, 0, 0);
    for (user, lane, item) in [(1, 0, 1), (1, 1, 2), (2, 2, 3), (1, 1, 4)] {
        let ticket = ticket(submit(&mut queue, user, lane, item));
        if item < 3 {
            queue.late_from(ticket, secs(item));
        }
    }
    assert_eq!(queue.next(secs(2)), None);
    let depths = |queue: &Queue| [queue.depth(0), queue.depth(1), queue.depth(2)];
    assert_eq!(depths(&queue), [1, 2, 1]);
    let newcomer = queue.submit(3, 1, secs(2), 5);
    let left = matches!(
        newcomer,
        Submitted::Queued {
            displaced: Some((_, 2)),
            ..
        }
    );
    assert!(left, "{newcomer:?}");
    let mut order = Vec::new();
    let mut holder = 9;
    for _ in 0..4 {
        queue.release(&holder);
        let next = queue.next(secs(2)).unwrap();
        holder = next.user;
        order.push((next.item, next.lane));
    }
    assert_eq!(order, [(4, 1), (5, 1), (3, 2), (1, 0)]);
    assert_eq!(depths(&queue), [0, 0, 0]);
    assert!(queue.lateness.is_empty());
}

/// Whom a place goes to.
#[derive(Clone, Copy)]
enum Order {
    FirstCome,
    NewestFirst,
    LateLast,
}

/// The share of deadlines met where 30 queries a second come to 20 places, are worked on for 0.5 to 1.5 s, and cut off
/// at their deadlines of 2.5 to 7.5 s.
fn met(order: Order) -> f64 {
    const PLACES: u32 = 20;
    let mut random = 1u64;
    let mut uniform = |low: f64, high: f64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        low + (high - low) * (random >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut queue = FairQueue::<u8, usize>::new(limits(PLACES, PLACES, usize::MAX));
    let mut newest: Vec<usize> = Vec::new();
    let (mut queries, mut tickets) = (Vec::new(), HashMap::new());
    // When permits come back, and whose.
    let mut ends = BTreeSet::new();
    let (mut in_time, mut arrival, mut free) = (0, 0.0, PLACES);
    let nanos = Duration::from_secs_f64;
    while queries.len() < 6000 || !ends.is_empty() {
        let arrives =
            queries.len() < 6000 && ends.first().is_none_or(|(at, _)| nanos(arrival) < *at);
        let mut begun = Vec::new();
        let now = if arrives {
            let (now, item) = (nanos(arrival), queries.len());
            let deadline = arrival + uniform(2.5, 7.5);
            queries.push((nanos(deadline), nanos(uniform(0.5, 1.5))));
            arrival += -uniform(1e-9, 1.0).ln() / 30.0;
            match order {
                Order::NewestFirst => newest.push(item),
                _ => match queue.submit((item % 8) as u8, 1, now, item) {
                    Submitted::Started(item) => begun.push(item),
                    Submitted::Queued { ticket, .. } => {
                        if let Order::LateLast = order {
                            let left = nanos(deadline) - now;
                            queue.late_from(ticket, now + (left - secs(2)).max(left / 2));
                        }
                        tickets.insert(item, ticket);
                    }
                    Submitted::Refused(_) => unreachable!("an endless queue"),
                },
            }
            now
        } else {
            let (now, item) = ends.pop_first().unwrap();
            match order {
                Order::NewestFirst => free += 1,
                _ => queue.release(&((item % 8) as u8)),
            }
            now
        };
        match order {
            Order::NewestFirst => {
                newest.retain(|item| queries[*item].0 > now);
                while free > 0
                    && let Some(item) = newest.pop()
                {
                    free -= 1;
                    begun.push(item);
                }
            }
            _ => {
                tickets.retain(|item, ticket| {
                    let waits = queries[*item].0 > now;
                    if !waits {
                        queue.cancel(*ticket);
                    }
                    waits
                });
                while let Some(started) = queue.next(now) {
                    tickets.remove(&started.item);
                    begun.push(started.item);
                }
            }
        }
        for item in begun {
            let (deadline, takes) = queries[item];
            in_time += usize::from(now + takes <= deadline);
            ends.insert(((now + takes).min(deadline), item));
        }
    }
    in_time as f64 / queries.len() as f64
}

#[test]
fn under_overload_late_ones_last_meet_more_deadlines_than_first_come_and_no_fewer_than_newest_first()
 {
    let [first, newest, late] = [Order::FirstCome, Order::NewestFirst, Order::LateLast].map(met);
    println!(
        "deadlines met: first come {first:.3}, newest first {newest:.3}, late ones last {late:.3}"
    );
    assert!(late > first + 0.03, "{late} {first}");
    assert!(late > newest - 0.01, "{late} {newest}");
}

#[test]
fn a_queue_of_no_length_refuses_who_cannot_start() {
    let mut queue = Queue::new(limits(1, 1, 0));
    assert_eq!(submit(&mut queue, 1, 0, 1), Submitted::Started(1));
    assert_eq!(submit(&mut queue, 2, 0, 2), Submitted::Refused(2));
}

#[test]
fn who_starts_without_knocking_is_counted_and_passes_nobody_who_waits() {
    let mut queue = Queue::new(limits(2, 5, 10));
    assert!(queue.start(&1) && queue.start(&1));
    assert!(!queue.start(&1), "beyond its share");
    assert!(matches!(
        submit(&mut queue, 1, 0, 1),
        Submitted::Queued { .. }
    ));
    queue.release(&1);
    assert!(!queue.start(&2), "somebody else's turn has come");
    assert_eq!(started(&mut queue), [1]);
    assert!(queue.start(&2));
    assert_eq!(queue.in_use(), 3);
}

#[test]
fn wider_limits_let_the_parked_start() {
    let mut queue = Queue::new(limits(1, 5, 10));
    for item in 0..4 {
        submit(&mut queue, 1, 0, item);
    }
    queue.reconfigure(limits(3, 5, 10));
    assert_eq!(started(&mut queue), [1, 2]);
}

#[test]
fn draining_yields_all_that_waits_and_keeps_permits() {
    let mut queue = Queue::new(limits(1, 1, 10));
    for (item, lane) in [(0, 0), (1, 2), (2, 0), (3, 1)] {
        submit(&mut queue, 1, lane, item);
    }
    assert_eq!(queue.drain(), [2, 3, 1]);
    assert_eq!((queue.waiting(), queue.in_use()), (0, 1));
    queue.release(&1);
    assert!(queue.users.is_empty() && queue.by_waiting.is_empty());
}

#[test]
fn cancelled_entries_leave_no_trace_while_others_wait() {
    let mut queue = Queue::new(limits(1, 1, 10));
    submit(&mut queue, 0, 0, 0);
    submit(&mut queue, 0, 0, 1);
    for item in 0..1000 {
        let user = 1 + (item % 200) as u8;
        let Submitted::Queued { ticket, .. } = submit(&mut queue, user, 1, item) else {
            panic!("no permit is free");
        };
        assert_eq!(queue.cancel(ticket), Some(item));
        assert_eq!(queue.cancel(ticket), None);
    }
    assert_eq!(queue.users.len(), 1);
    assert_eq!(
        (queue.rings[1].len(), queue.ages[1].len(), queue.depth(1)),
        (0, 0, 0)
    );
}

#[derive(Clone, Debug)]
enum Op {
    Submit {
        user: u8,
        lane: usize,
        late: Option<u64>,
    },
    Release {
        nth: usize,
    },
    Cancel {
        nth: usize,
    },
    Reconfigure {
        per_user: u32,
        total: u32,
        queue: usize,
        aging: u64,
    },
    Wait {
        secs: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0u8..5, 0..LANES, proptest::option::of(0u64..30))
            .prop_map(|(user, lane, late)| Op::Submit { user, lane, late }),
        4 => any::<usize>().prop_map(|nth| Op::Release { nth }),
        2 => any::<usize>().prop_map(|nth| Op::Cancel { nth }),
        1 => (1u32..4, 1u32..8, 0usize..12, 0u64..20).prop_map(|(per_user, total, queue, aging)| {
            Op::Reconfigure { per_user, total, queue, aging }
        }),
        3 => (0u64..15).prop_map(|secs| Op::Wait { secs }),
    ]
}

/// What an observer of the queue knows: who holds permits and who waits, without its order.
#[derive(Default)]
struct Model {
    submitted: u64,
    gone: u64,
    holders: Vec<u8>,
    /// Ticket to user, lane submitted to, item and time.
    waiting: BTreeMap<u64, (u8, usize, u64, Duration)>,
    /// Ticket to when it goes last.
    late: HashMap<u64, Duration>,
}

impl Model {
    fn held_by(&self, user: u8) -> u32 {
        self.holders
            .iter()
            .filter(|&&holder| holder == user)
            .count() as u32
    }

    fn waiting_of(&self, user: u8) -> usize {
        self.waiting
            .values()
            .filter(|entry| entry.0 == user)
            .count()
    }

    fn is_late(&self, ticket: u64, now: Duration) -> bool {
        self.late.get(&ticket).is_some_and(|at| *at <= now)
    }

    /// Runs `next` to its end; what it starts must be allowed, known and in order.
    fn settle(&mut self, queue: &mut Queue, limits: &Limits, now: Duration) {
        while let Some(next) = queue.next(now) {
            let entry = self.waiting.remove(&next.ticket).expect("it was waiting");
            assert_eq!(entry, (next.user, next.lane, next.item, now - next.waited));
            let late = self.is_late(next.ticket, now);
            let overtaken = self.waiting.iter().find(|(ticket, other)| {
                let before = if late {
                    self.held_by(other.0) < limits.per_user
                } else {
                    **ticket < next.ticket && (other.0, other.1) == (next.user, next.lane)
                };
                before && !self.is_late(**ticket, now)
            });
            assert_eq!(overtaken, None, "overtaken by {next:?}");
            self.holders.push(next.user);
            assert!(self.held_by(next.user) <= limits.per_user);
            assert!(self.holders.len() as u32 <= limits.total);
        }
        if (self.holders.len() as u32) < limits.total {
            let startable = self
                .waiting
                .values()
                .find(|entry| self.held_by(entry.0) < limits.per_user);
            assert_eq!(startable, None, "left waiting");
        }
    }

    /// What the queue says of itself must be what was seen.
    fn compare(&self, queue: &Queue) {
        assert_eq!(queue.in_use(), self.holders.len() as u32);
        assert_eq!(queue.waiting(), self.waiting.len());
        assert_eq!(
            (0..LANES).map(|lane| queue.depth(lane)).sum::<usize>(),
            self.waiting.len()
        );
        for user in 0..5 {
            assert_eq!(queue.in_use_by(&user), self.held_by(user));
        }
        let users: HashSet<u8> = self
            .waiting
            .values()
            .map(|entry| entry.0)
            .chain(self.holders.iter().copied())
            .collect();
        assert_eq!(queue.users.len(), users.len());
        assert_eq!(queue.by_waiting.len().saturating_sub(1), self.most());
    }

    fn most(&self) -> usize {
        (0..5).map(|user| self.waiting_of(user)).max().unwrap_or(0)
    }
}

proptest! {
    #[test]
    fn limits_hold_nothing_is_lost_and_nobody_waits_who_could_start(
        ops in proptest::collection::vec(op(), 0..200),
    ) {
        let mut limits = Limits { per_user: 2, total: 4, queue: 8, aging: secs(10) };
        let mut queue = Queue::new(limits);
        let mut model = Model::default();
        let mut now = secs(0);
        for op in ops {
            match op {
                Op::Submit { user, lane, late } => {
                    let item = model.submitted;
                    model.submitted += 1;
                    let full = model.waiting.len() >= limits.queue;
                    let (mine, most) = (model.waiting_of(user), model.most());
                    match queue.submit(user, lane, now, item) {
                        Submitted::Started(same) => {
                            prop_assert_eq!(same, item);
                            model.holders.push(user);
                            prop_assert!(model.held_by(user) <= limits.per_user);
                            prop_assert!(model.holders.len() as u32 <= limits.total);
                        }
                        Submitted::Queued { ticket, displaced } => {
                            prop_assert_eq!(full, displaced.is_some());
                            if let Some((ticket, item)) = displaced {
                                let victim = model.waiting.remove(&ticket).expect("it was waiting");
                                prop_assert_eq!(victim.2, item);
                                let expendable = victim.1 == BATCH || model.is_late(ticket, now);
                                prop_assert!(mine + 1 < most || (lane == URGENT && expendable));
                                model.gone += 1;
                            }
                            prop_assert!(model.waiting.insert(ticket, (user, lane, item, now)).is_none());
                            if let Some(late) = late {
                                queue.late_from(ticket, now + secs(late));
                                model.late.insert(ticket, now + secs(late));
                            }
                        }
                        Submitted::Refused(same) => {
                            prop_assert_eq!(same, item);
                            prop_assert!(full && mine + 1 >= most);
                            let batch_of_greediest = (0..5).any(|user| {
                                model.waiting_of(user) == most && queue.users.get(&user).is_some_and(
                                    |state| state.last(BATCH).is_some(),
                                )
                            });
                            prop_assert!(most == 0 || lane != URGENT || !batch_of_greediest);
                            model.gone += 1;
                        }
                    }
                }
                Op::Release { nth } if !model.holders.is_empty() => {
                    let user = model.holders.swap_remove(nth % model.holders.len());
                    queue.release(&user);
                    model.gone += 1;
                }
                Op::Cancel { nth } if !model.waiting.is_empty() => {
                    let ticket = *model.waiting.keys().nth(nth % model.waiting.len()).expect("in range");
                    let entry = model.waiting.remove(&ticket).expect("it was waiting");
                    prop_assert_eq!(queue.cancel(ticket), Some(entry.2));
                    model.gone += 1;
                }
                Op::Reconfigure { per_user, total, queue: length, aging } => {
                    limits = Limits { per_user, total, queue: length, aging: secs(aging) };
                    queue.reconfigure(limits);
                }
                Op::Wait { secs: n } => now += secs(n),
                Op::Release { .. } | Op::Cancel { .. } => {}
            }
            model.settle(&mut queue, &limits, now);
            model.compare(&queue);
            let seen = model.gone + (model.holders.len() + model.waiting.len()) as u64;
            prop_assert_eq!(seen, model.submitted);
        }
    }

    /// Permits come back oldest first, one a second; meanwhile urgent queries of one or two users keep
    /// arriving. An entry is at most `2 * aging` seconds from the highest lane, and there behind at most
    /// what its own user had before it, each worth a turn of all five users and the return of its permits.
    #[test]
    fn everything_that_waits_starts_whatever_arrives(
        crowd in proptest::collection::vec((0u8..5, 0..LANES), 1..30),
        arrivals in proptest::collection::vec(0u8..5, 1..40),
        per_user in 1u32..4,
        total in 1u32..6,
    ) {
        let limits = Limits { per_user, total, queue: usize::MAX, aging: secs(5) };
        let mut queue = Queue::new(limits);
        let mut held = VecDeque::new();
        let mut targets = HashSet::new();
        for (item, &(user, lane)) in crowd.iter().enumerate() {
            match queue.submit(user, lane, secs(0), item as u64) {
                Submitted::Started(_) => held.push_back(user),
                Submitted::Queued { ticket, .. } => { targets.insert(ticket); }
                Submitted::Refused(_) => prop_assert!(false, "refused by an endless queue"),
            }
        }
        let ahead = crowd.len() as u64 + 2 * 10;
        let bound = 10 + ahead * (5 + u64::from(total));
        for round in 1..=bound {
            for extra in 0..2 {
                let user = arrivals[(round as usize + extra) % arrivals.len()];
                if let Submitted::Started(_) = queue.submit(user, 0, secs(round), 0) {
                    held.push_back(user);
                }
            }
            if let Some(user) = held.pop_front() {
                queue.release(&user);
            }
            while let Some(next) = queue.next(secs(round)) {
                held.push_back(next.user);
                targets.remove(&next.ticket);
            }
            if targets.is_empty() {
                break;
            }
        }
        prop_assert!(targets.is_empty(), "{} still wait after {bound} rounds", targets.len());
    }

    #[test]
    fn a_single_query_starts_within_one_round_of_the_other_users(
        floods in proptest::collection::vec(1usize..60, 1..6),
        per_user in 1u32..4,
        total in 1u32..6,
        lane in 0..LANES,
    ) {
        let mut queue = Queue::new(limits(per_user, total, usize::MAX));
        let mut held = VecDeque::new();
        for (user, &flood) in floods.iter().enumerate() {
            for _ in 0..flood {
                if let Submitted::Started(_) = submit(&mut queue, user as u8, lane, 0) {
                    held.push_back(user as u8);
                }
            }
        }
        let mut releases = 0;
        let mut waits = matches!(submit(&mut queue, 100, lane, 1), Submitted::Queued { .. });
        while waits {
            queue.release(&held.pop_front().expect("it waits, so permits are in use"));
            releases += 1;
            while let Some(next) = queue.next(Duration::ZERO) {
                held.push_back(next.user);
                waits &= next.user != 100;
            }
        }
        prop_assert!(releases <= floods.len() + 1, "started after {releases} releases");
    }
}
