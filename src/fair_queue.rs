//! Who may start, who waits, and in which order: admission as a pure automaton.
//!
//! - A user holds at most `per_user` permits, all users together at most `total`.
//! - Who finds no permit waits in a lane. Lanes are strict: a lower one is served when no higher one
//!   can start anything. So that none starves, an entry that has waited `aging` in its lane moves up one
//!   lane, behind what its user already has there; after `(LANES - 1) * aging` it is in the highest.
//! - Within a lane users take turns, one entry each (deficit round robin with every entry at unit cost:
//!   Shreedhar and Varghese, 1995), and a user's own entries go in the order in which they joined the
//!   lane. A user who holds `per_user` permits has no turn and costs the others nothing; on its next
//!   release it joins the end of the ring, as a user does who had nothing waiting.
//! - An entry that can hardly end in time any more ([`FairQueue::late_from`]) goes behind all lanes, so that under
//!   overload places go to those who can. Serving the newest first does as much for deadlines, and no more, at the
//!   price of the order of a user's own entries; the simulation in `tests` compares the two.
//! - A full queue drops from its longest flow (McKenney's stochastic fairness queueing, 1990, gives the
//!   idea). Let the greediest be the user with most entries waiting, all lanes counted; of several, one
//!   with a batch entry, then whoever has been so for longest. The newcomer displaces the last entry to
//!   have joined the lowest lane the greediest occupies (late ones first), the one that would be served last, if the
//!   newcomer's user would still have fewer waiting than the greediest has now. Besides, an urgent
//!   newcomer displaces a batch entry of one of the greediest, its own user's first if that is one of
//!   them. All others are refused.
//!
//! Every operation is O(1) amortised, but for a logarithm where entries become late, and for
//! [`FairQueue::reconfigure`] and [`FairQueue::drain`], which visit what waits. Nothing is kept of an entry that left or of a user with neither permits nor entries.

mod chain;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use chain::Chain;

/// How many lanes there are; 0 is the most urgent.
pub const LANES: usize = 3;

/// The most entries that ever wait, whatever the limits say: what bounds the memory is no one's to
/// configure away.
pub const MAX_QUEUE: usize = 100_000;

const URGENT: usize = 0;
const BATCH: usize = LANES - 1;
/// Behind all lanes: who can hardly make it.
const LATE: usize = LANES;
/// How many levels entries wait at.
const LEVELS: usize = LANES + 1;

/// What admission allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Permits one user holds at once; at least 1, or nobody ever starts.
    pub per_user: u32,
    /// Permits held at once in all; at least 1, or nobody ever starts.
    pub total: u32,
    /// Entries that wait at once, at most [`MAX_QUEUE`]; 0 refuses whoever cannot start.
    pub queue: usize,
    /// How long an entry stays in a lane before it moves up one; 0 makes all lanes one.
    pub aging: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_user: 3,
            total: 50,
            queue: 1000,
            aging: Duration::from_secs(10),
        }
    }
}

/// What became of a newcomer.
#[derive(Debug, PartialEq, Eq)]
pub enum Submitted<T> {
    /// It has a permit.
    Started(T),
    /// It waits.
    Queued {
        /// Names it in [`FairQueue::cancel`] and in [`Started`]. Unique within one queue only.
        ticket: u64,
        /// The ticket and item that had to leave for it, to be answered `overloaded`.
        displaced: Option<(u64, T)>,
    },
    /// The queue is full.
    Refused(T),
}

/// An entry that waited and now has a permit.
#[derive(Debug, PartialEq, Eq)]
pub struct Started<K, T> {
    /// Whose permit it is.
    pub user: K,
    /// The lane it was submitted to, whatever lane it has aged into.
    pub lane: usize,
    /// How long it waited in all.
    pub waited: Duration,
    /// The ticket it had.
    pub ticket: u64,
    /// What was submitted.
    pub item: T,
}

/// The admission automaton: `K` names a user, `T` is what is admitted.
///
/// Times are monotonic, since any one epoch; a time before the latest one seen counts as that one. After
/// [`release`](Self::release), [`cancel`](Self::cancel) and [`reconfigure`](Self::reconfigure) the caller
/// calls [`next`](Self::next) until it yields `None`.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    limits: Limits,
    now: Duration,
    next_ticket: u64,
    in_use: u32,
    users: HashMap<K, User>,
    entries: HashMap<u64, Entry<K, T>>,
    /// Per level, the users whose turn comes: those with an entry there and a permit to spare.
    rings: [Chain<K>; LEVELS],
    /// Per level, every entry, the one longest there first.
    ages: [Chain<u64>; LEVELS],
    /// When entries become late, the next first.
    lateness: BTreeSet<(Duration, u64)>,
    /// Late entries by the lane they were submitted to.
    late: [usize; LANES],
    /// At index n, the users with n entries waiting: first those with none that is late or in the batch lane, then
    /// those with one. The last index is never empty: there are the greediest.
    by_waiting: Vec<[Chain<K>; 2]>,
}

#[derive(Debug, Default)]
struct User {
    in_use: u32,
    /// About the shortest that it held a permit of late.
    held: Option<Duration>,
    flows: [Chain<u64>; LEVELS],
    /// Where it stands in `by_waiting`, if anywhere.
    rank: Option<(usize, usize)>,
}

impl User {
    fn waiting(&self) -> usize {
        self.flows.iter().map(Chain::len).sum()
    }

    /// The last entry of its lowest level, if that is `highest` or lower.
    fn last(&self, highest: usize) -> Option<u64> {
        let levels = self.flows[highest..].iter();
        levels.rev().find_map(|flow| flow.back().copied())
    }
}

#[derive(Debug)]
struct Entry<K, T> {
    user: K,
    submitted_to: usize,
    submitted_at: Duration,
    lane: usize,
    /// When it joined `lane`.
    since: Duration,
    late_from: Option<Duration>,
    item: T,
}

impl<K: Clone + Eq + Hash, T> FairQueue<K, T> {
    /// An empty queue with every permit free.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            now: Duration::ZERO,
            next_ticket: 0,
            in_use: 0,
            users: HashMap::new(),
            entries: HashMap::new(),
            rings: Default::default(),
            ages: Default::default(),
            lateness: BTreeSet::new(),
            late: [0; LANES],
            by_waiting: Vec::new(),
        }
    }

    /// Admits `item`, lets it wait or refuses it. `lane` is 0 (most urgent) to `LANES - 1`; more counts
    /// as the last.
    pub fn submit(&mut self, user: K, lane: usize, now: Duration, item: T) -> Submitted<T> {
        self.age(now);
        let lane = lane.min(BATCH);
        if self.start(&user) {
            return Submitted::Started(item);
        }
        let mut displaced = None;
        if self.waiting() >= self.limits.queue.min(MAX_QUEUE) {
            let Some(ticket) = self.victim(&user, lane) else {
                return Submitted::Refused(item);
            };
            displaced = self.cancel(ticket).map(|item| (ticket, item));
        }
        let ticket = self.enqueue(user, lane, now, item);
        Submitted::Queued { ticket, displaced }
    }

    /// Has `item` wait, though it might start, and whatever the queue's length. For who takes no permits.
    pub fn enqueue(&mut self, user: K, lane: usize, now: Duration, item: T) -> u64 {
        self.age(now);
        let lane = lane.min(BATCH);
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let entry = Entry {
            user: user.clone(),
            submitted_to: lane,
            submitted_at: self.now,
            lane,
            since: self.now,
            late_from: None,
            item,
        };
        self.entries.insert(ticket, entry);
        self.ages[lane].push(ticket);
        self.users.entry(user.clone()).or_default().flows[lane].push(ticket);
        self.arrange(&user);
        ticket
    }

    /// From `at` on, an entry that still waits goes behind all lanes, however long it has waited.
    pub fn late_from(&mut self, ticket: u64, at: Duration) {
        if let Some(entry) = self.entries.get_mut(&ticket).filter(|one| one.lane != LATE) {
            if let Some(before) = entry.late_from.replace(at) {
                self.lateness.remove(&(before, ticket));
            }
            self.lateness.insert((at, ticket));
        }
    }

    /// Gives `user` a permit if it would not have to wait for it.
    pub fn start(&mut self, user: &K) -> bool {
        let permit_free =
            self.in_use < self.limits.total && self.in_use_by(user) < self.limits.per_user;
        // Someone in a ring could start too, and was here before.
        if !permit_free || self.rings.iter().any(|ring| !ring.is_empty()) {
            return false;
        }
        match self.users.get_mut(user) {
            Some(state) => state.in_use += 1,
            None => self.users.entry(user.clone()).or_default().in_use += 1,
        }
        self.in_use += 1;
        true
    }

    /// Starts whoever's turn it is, if a permit is free.
    pub fn next(&mut self, now: Duration) -> Option<Started<K, T>> {
        self.age(now);
        if self.in_use >= self.limits.total {
            return None;
        }
        let lane = self.rings.iter().position(|ring| !ring.is_empty())?;
        let user = self.rings[lane].front()?.clone();
        let ticket = *self.users.get(&user)?.flows[lane].front()?;
        let entry = self.take(ticket)?;
        self.users.entry(user.clone()).or_default().in_use += 1;
        self.in_use += 1;
        // It had its turn: `arrange` puts it back at the end if it may have another.
        self.rings[lane].remove(&user);
        self.arrange(&user);
        Some(Started {
            user,
            lane: entry.submitted_to,
            waited: self.now.saturating_sub(entry.submitted_at),
            ticket,
            item: entry.item,
        })
    }

    /// Takes back a permit of `user`; nothing happens if it holds none.
    pub fn release(&mut self, user: &K) {
        let Some(state) = self.users.get_mut(user).filter(|state| state.in_use > 0) else {
            return;
        };
        state.in_use -= 1;
        self.in_use -= 1;
        self.arrange(user);
    }

    /// [`Self::release`] of a permit that was held for `held`.
    pub fn release_after(&mut self, user: &K, held: Duration) {
        if let Some(state) = self.users.get_mut(user) {
            let least = state.held.map_or(held, |least| held.min(least * 2));
            state.held = Some(least);
        }
        self.release(user);
    }

    /// Takes a waiting entry out. `None` if it no longer waits.
    pub fn cancel(&mut self, ticket: u64) -> Option<T> {
        let entry = self.take(ticket)?;
        self.arrange(&entry.user);
        Some(entry.item)
    }

    /// Changes the limits. Permits and entries beyond the new ones stay until they go by themselves.
    pub fn reconfigure(&mut self, limits: Limits) {
        self.limits = limits;
        // Through the entries and not the map of users, so that the order of turns is no accident of hashing.
        let users: Vec<K> = self.in_order().map(|entry| entry.user.clone()).collect();
        for user in users {
            self.arrange(&user);
        }
    }

    /// Takes out all that waits, lane by lane. Permits stay in use.
    pub fn drain(&mut self) -> Vec<T> {
        let tickets: Vec<u64> = self.ages.iter().flat_map(Chain::iter).copied().collect();
        tickets
            .into_iter()
            .filter_map(|ticket| self.cancel(ticket))
            .collect()
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Permits in use.
    pub fn in_use(&self) -> u32 {
        self.in_use
    }

    /// Permits `user` holds.
    pub fn in_use_by(&self, user: &K) -> u32 {
        self.users.get(user).map_or(0, |state| state.in_use)
    }

    /// Entries that wait in `lane`, those that aged into it included, and those that became late there.
    pub fn depth(&self, lane: usize) -> usize {
        let late = self.late.get(lane);
        late.map_or(0, |late| late + self.ages[lane].len())
    }

    /// How long the last entry of `user` in `lane` waits at least, where permits are usually held for `held`: behind its
    /// own, as long as those were held, and where all permits are in use, behind its own and one of each other user.
    pub fn least_wait(&self, user: &K, lane: usize, held: Duration) -> Duration {
        let lane = lane.min(BATCH);
        let Some(state) = self.users.get(user) else {
            return Duration::ZERO;
        };
        let own = state.flows[lane].len().saturating_sub(1);
        let turns = |before: usize, places: u32| before as f64 / f64::from(places.max(1));
        let behind_own = (state.held.unwrap_or_default()).mul_f64(turns(own, self.limits.per_user));
        if self.in_use < self.limits.total {
            return behind_own;
        }
        let ring = &self.rings[lane];
        let others = ring.len() - usize::from(ring.contains(user));
        behind_own.max(held.mul_f64(turns(own + others, self.limits.total)))
    }

    /// Entries that wait in all.
    pub fn waiting(&self) -> usize {
        self.entries.len()
    }

    fn in_order(&self) -> impl Iterator<Item = &Entry<K, T>> {
        self.ages
            .iter()
            .flat_map(Chain::iter)
            .filter_map(|ticket| self.entries.get(ticket))
    }

    /// Moves down what has become late, and up what has waited its time. The lowest lane first, since after a long
    /// silence an entry may be due twice.
    fn age(&mut self, now: Duration) {
        self.now = self.now.max(now);
        while let Some(&(at, ticket)) = self.lateness.first()
            && at <= self.now
        {
            if let Some(mut entry) = self.take(ticket) {
                let user = entry.user.clone();
                entry.lane = LATE;
                entry.late_from = None;
                self.late[entry.submitted_to] += 1;
                self.entries.insert(ticket, entry);
                self.ages[LATE].push(ticket);
                if let Some(state) = self.users.get_mut(&user) {
                    state.flows[LATE].push(ticket);
                }
                self.arrange(&user);
            }
        }
        for lane in (1..LANES).rev() {
            while let Some(&ticket) = self.ages[lane].front() {
                let youngest = self.ages[lane - 1]
                    .back()
                    .and_then(|last| self.entries.get(last));
                let youngest = youngest.map_or(Duration::ZERO, |entry| entry.since);
                let Some(entry) = self.entries.get_mut(&ticket) else {
                    break;
                };
                let due = entry.since.saturating_add(self.limits.aging);
                if due > self.now {
                    break;
                }
                entry.lane = lane - 1;
                // An aging just made shorter may date the move before one already made.
                entry.since = due.max(youngest);
                let user = entry.user.clone();
                self.ages[lane].remove(&ticket);
                self.ages[lane - 1].push(ticket);
                if let Some(state) = self.users.get_mut(&user) {
                    state.flows[lane].remove(&ticket);
                    state.flows[lane - 1].push(ticket);
                }
                self.arrange(&user);
            }
        }
    }

    /// The entry a newcomer displaces from a full queue, by the rule at the top of this file.
    fn victim(&self, user: &K, lane: usize) -> Option<u64> {
        let most = self.by_waiting.len().checked_sub(1)?;
        let own = self.users.get(user);
        let waiting = own.map_or(0, User::waiting);
        if lane == URGENT && waiting == most {
            let own_batch = own.and_then(|state| state.last(BATCH));
            if own_batch.is_some() {
                return own_batch;
            }
        }
        let [without_batch, with_batch] = &self.by_waiting[most];
        let greediest = self
            .users
            .get(with_batch.front().or(without_batch.front())?)?;
        if waiting + 1 < most {
            return greediest.last(URGENT);
        }
        greediest.last(BATCH).filter(|_| lane == URGENT)
    }

    /// Takes an entry out; [`Self::arrange`] must follow.
    fn take(&mut self, ticket: u64) -> Option<Entry<K, T>> {
        let entry = self.entries.remove(&ticket)?;
        self.ages[entry.lane].remove(&ticket);
        if entry.lane == LATE {
            self.late[entry.submitted_to] -= 1;
        }
        if let Some(at) = entry.late_from {
            self.lateness.remove(&(at, ticket));
        }
        if let Some(state) = self.users.get_mut(&entry.user) {
            state.flows[entry.lane].remove(&ticket);
        }
        Some(entry)
    }

    /// Follows a change of `user` or of the limits: puts it into the rings of those lanes where it could
    /// start something, takes it out of the others, ranks it anew, and forgets it if nothing is left.
    fn arrange(&mut self, user: &K) {
        let Some(state) = self.users.get_mut(user) else {
            return;
        };
        let may_start = state.in_use < self.limits.per_user;
        for (ring, flow) in self.rings.iter_mut().zip(&state.flows) {
            match (may_start && !flow.is_empty(), ring.contains(user)) {
                (true, false) => ring.push(user.clone()),
                (false, true) => ring.remove(user),
                _ => {}
            }
        }
        let waiting = state.waiting();
        let rank = (waiting > 0).then(|| (waiting, usize::from(state.last(BATCH).is_some())));
        let former = std::mem::replace(&mut state.rank, rank);
        if state.in_use == 0 && waiting == 0 {
            self.users.remove(user);
        }
        if former == rank {
            return;
        }
        if let Some((waiting, batch)) = former {
            self.by_waiting[waiting][batch].remove(user);
        }
        if let Some((waiting, batch)) = rank {
            if self.by_waiting.len() <= waiting {
                self.by_waiting.resize_with(waiting + 1, Default::default);
            }
            self.by_waiting[waiting][batch].push(user.clone());
        }
        while self
            .by_waiting
            .last()
            .is_some_and(|users| users.iter().all(Chain::is_empty))
        {
            self.by_waiting.pop();
        }
    }
}
