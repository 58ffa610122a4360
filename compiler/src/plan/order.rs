//! The order of groups, and which of them run as one launch.
//!
//! The order is greedy: of the groups that are ready, the one that leaves the least live memory comes next, and the first in the graph's
//! order among equals. So a gradient is consumed by its update as soon as it is there.
//!
//! A launch costs a fork and a join whatever it does, so kernels share one, in two ways that never reorder what depends on each other:
//! - A kernel *joins* the launch before it if it was ready when that began, and no more is alive at once than has been anyway.
//! - A kernel whose results nobody reads, which is what updates are, *waits* for the next launch of kernels, which it joins. What it
//!   reads stays alive meanwhile, so there are limits: for maps, [`MOST_KEPT`] bytes or an eighth of the state; for everything else, which
//!   reads more than it writes, [`MOST_FOLDED`] and no rise of the peak. What would pass the limit runs at once, and all that waits with it.
//!
//! Products take part in neither: their updates are epilogues, which is better than any launch.

use super::needs::{Needs, Traffic};
use super::schedule::likely_bytes;
use crate::kernel::{LoopKind, Stmt};
use crate::lower::LoweredGroup;
use crate::options::Order;
use kiln_ir::{Graph, NodeId, Role};
use std::collections::BTreeSet;

/// The bytes of gradients that may always wait for their updates.
const MOST_KEPT: i64 = 32 << 20;

/// The part of params and state that gradients may take up while they wait, if that is more.
const STATE_SHARE: i64 = 8;

/// The bytes that may wait for a reduction. They are read again from a farther cache, which must not cost more than a launch.
const MOST_FOLDED: i64 = 256 << 10;

/// Dependencies among groups, by position.
pub(super) struct Edges {
    after: Vec<Vec<usize>>,
    before: Vec<usize>,
}

impl Edges {
    pub(super) fn new(groups: usize) -> Self {
        Edges {
            after: vec![Vec::new(); groups],
            before: vec![0; groups],
        }
    }

    /// `first` runs before `second`. To say so twice does no harm.
    pub(super) fn add(&mut self, first: usize, second: usize) {
        if first != second {
            self.after[first].push(second);
            self.before[second] += 1;
        }
    }

    /// For each group, whether it runs behind `from` or is it.
    pub(super) fn reached(&self, from: usize) -> Vec<bool> {
        let mut seen = vec![false; self.after.len()];
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            if !std::mem::replace(&mut seen[at], true) {
                open.extend(&self.after[at]);
            }
        }
        seen
    }
}

/// How long a kernel waits for a launch to join.
#[derive(Clone, Copy)]
struct Patience {
    /// The bytes that may be kept alive for all who wait, itself included.
    limit: i64,
    /// Whether more may be alive at once than would be otherwise.
    may_raise_peak: bool,
}

/// What is known of the groups before they are ordered.
struct Facts<'n> {
    needs: &'n Needs,
    /// The bytes of each node that lives in the arena.
    bytes: Vec<i64>,
    /// What each group reads and another one writes, or nobody.
    reads: Vec<Vec<NodeId>>,
    /// The bytes of what each group writes.
    made: Vec<i64>,
    /// How long each group waits for a launch to join; `None` where it does not wait.
    patience: Vec<Option<Patience>>,
    /// Whether each group is a kernel without a product.
    kernel: Vec<bool>,
    /// Whether each group writes much and reads nothing, as one that fills a tensor with zeros does: it could run at any time, and does so as
    /// late as it can.
    late: Vec<bool>,
    join: bool,
}

/// The steps so far.
struct State<'n> {
    facts: Facts<'n>,
    edges: Edges,
    by: Order,
    /// Readers of each node that have not run.
    left: Vec<usize>,
    /// Readers of each node that wait.
    awaited: Vec<usize>,
    /// Whether one of these may not raise the peak.
    modest: Vec<bool>,
    /// By how much live memory grows when the group has run, as things are.
    growth: Vec<i64>,
    ready: BTreeSet<(i64, usize)>,
    /// For each group that is ready, how many steps had begun by then.
    since: Vec<usize>,
    done: Vec<bool>,
    steps: Vec<Vec<usize>>,
    /// The bytes alive during the last step, if others may join it.
    open: Option<i64>,
    /// Groups that wait for a launch to join.
    waiting: Vec<usize>,
    /// The bytes that live only for those who wait, and those of them that one waits for who may not raise the peak.
    kept: i64,
    kept_modestly: i64,
    /// The bytes alive between steps, and the most that were alive during one.
    live: i64,
    peak: i64,
}

/// The groups in an order that keeps to `edges`: those of a step run as one launch, and none of them depends on another. With `join`,
/// kernels share launches.
pub(super) fn order(
    graph: &Graph,
    groups: &[LoweredGroup],
    needs: &Needs,
    edges: Edges,
    in_place: &[Option<NodeId>],
    by: Order,
    join: bool,
) -> Vec<Vec<usize>> {
    let facts = facts(graph, groups, needs, in_place, join);
    let count = groups.len();
    let mut state = State {
        left: needs.readers.iter().map(Vec::len).collect(),
        awaited: vec![0; graph.len()],
        modest: vec![false; graph.len()],
        growth: facts.made.clone(),
        ready: BTreeSet::new(),
        since: vec![0; count],
        done: vec![false; count],
        steps: Vec::new(),
        open: None,
        waiting: Vec::new(),
        kept: 0,
        kept_modestly: 0,
        live: 0,
        peak: 0,
        facts,
        edges,
        by,
    };
    for group in 0..count {
        let last = |n: &&NodeId| state.left[n.index()] == 1;
        let freed = state.facts.reads[group].iter().filter(last);
        let freed: i64 = freed.map(|n| state.facts.bytes[n.index()]).sum();
        state.growth[group] = state.growth[group].saturating_sub(freed);
    }
    for group in 0..count {
        if state.edges.before[group] == 0 {
            state.ready.insert(state.key(group));
        }
    }
    state.run();
    state.steps
}

fn facts<'n>(
    graph: &Graph,
    groups: &[LoweredGroup],
    needs: &'n Needs,
    in_place: &[Option<NodeId>],
    join: bool,
) -> Facts<'n> {
    let mut sinks = vec![false; graph.len()];
    let outputs = graph.outputs().iter().map(|o| o.node);
    for sink in outputs.chain(graph.updates().iter().map(|u| u.value)) {
        sinks[sink.index()] = true;
    }
    let bytes: Vec<i64> = (0..graph.len())
        .map(|i| {
            let transient = needs.writer[i].is_some() && !sinks[i] && in_place[i].is_none();
            if transient {
                likely_bytes(graph, NodeId::new(i))
            } else {
                0
            }
        })
        .collect();
    let residents = graph.slots().iter().filter(|s| s.role != Role::Input);
    let state = residents.fold(0i64, |sum, s| {
        sum.saturating_add(likely_bytes(graph, s.node))
    });
    let most = MOST_KEPT.max(state / STATE_SHARE);
    let patience = |(group, traffic): (&LoweredGroup, &Traffic)| {
        let kernel = group.kernel.as_ref().filter(|_| group.product.is_none())?;
        let patience = if is_map(&kernel.kernel.body) {
            Patience {
                limit: most,
                may_raise_peak: true,
            }
        } else {
            Patience {
                limit: MOST_FOLDED,
                may_raise_peak: false,
            }
        };
        // Guards wait for their conditions, which are sinks of another kind.
        let last = |n: &NodeId| sinks[n.index()] && needs.readers[n.index()].is_empty();
        (join && traffic.writes.iter().all(last)).then_some(patience)
    };
    let writes = |t: &Traffic| t.writes.iter().map(|n| bytes[n.index()]).sum();
    let reads = |(group, t): (usize, &Traffic)| {
        let mut reads = t.reads();
        reads.retain(|n| needs.writer[n.index()] != Some(group));
        reads
    };
    let late = |t: &Traffic| {
        let made: i64 = t.writes.iter().map(|n| bytes[n.index()]).sum();
        made > MOST_FOLDED && t.reads().is_empty()
    };
    Facts {
        needs,
        late: needs.traffic.iter().map(late).collect(),
        reads: needs.traffic.iter().enumerate().map(reads).collect(),
        made: needs.traffic.iter().map(writes).collect(),
        patience: groups.iter().zip(&needs.traffic).map(patience).collect(),
        kernel: groups
            .iter()
            .map(|g| g.product.is_none() && g.kernel.is_some())
            .collect(),
        bytes,
        join,
    }
}

/// Whether every element is computed from a few others, and nothing goes on from one iteration to the next.
fn is_map(body: &[Stmt]) -> bool {
    body.iter().all(|stmt| match stmt {
        Stmt::Loop(inner) => {
            inner.kind != LoopKind::Serial && inner.accumulators.is_empty() && is_map(&inner.body)
        }
        Stmt::Let { .. } | Stmt::Store { .. } | Stmt::Apply(_) => true,
        // A long row is worth a thread.
        Stmt::Sort(_) => false,
    })
}

impl State<'_> {
    fn key(&self, group: usize) -> (i64, usize) {
        match self.by {
            Order::LeastMemory if self.facts.late[group] => (i64::MAX, group),
            Order::LeastMemory => (self.growth[group], group),
            Order::Topological => (0, group),
        }
    }

    fn run(&mut self) {
        loop {
            let Some((_, group)) = self.ready.pop_first() else {
                if self.waiting.is_empty() {
                    return;
                }
                self.flush();
                continue;
            };
            if self.may_join(group) {
                let made = self.facts.made[group];
                self.open = self.open.map(|alive| alive.saturating_add(made));
                if let Some(step) = self.steps.last_mut() {
                    step.push(group);
                }
                self.finish(&[group]);
            } else if self.may_wait(group) {
                self.wait(group);
            } else {
                self.begin(group);
            }
        }
    }

    /// Whether a group can run with the last step: it is ready without what that computes, and fits beside it.
    fn may_join(&self, group: usize) -> bool {
        let Some(alive) = self.open.filter(|_| self.facts.kernel[group]) else {
            return false;
        };
        let made = self.facts.made[group];
        let fits = made == 0 || alive.saturating_add(made) <= self.peak;
        self.since[group] < self.steps.len() && fits
    }

    fn may_wait(&self, group: usize) -> bool {
        let last = |n: &&NodeId| self.left[n.index()] == self.awaited[n.index()] + 1;
        let reads = self.facts.reads[group].iter().filter(last);
        let kept: i64 = reads.map(|n| self.facts.bytes[n.index()]).sum();
        let kept = self.kept.saturating_add(kept);
        self.facts.patience[group].is_some_and(|p| kept <= p.limit)
    }

    fn wait(&mut self, group: usize) {
        self.waiting.push(group);
        let modest = self.facts.patience[group].is_some_and(|p| !p.may_raise_peak);
        for at in 0..self.facts.reads[group].len() {
            let node = self.facts.reads[group][at];
            self.awaited[node.index()] += 1;
            self.modest[node.index()] |= modest;
            if self.left[node.index()] == self.awaited[node.index()] {
                self.keep(node);
            }
        }
    }

    /// A node lives only for those who wait from now on.
    fn keep(&mut self, node: NodeId) {
        let bytes = self.facts.bytes[node.index()];
        self.kept = self.kept.saturating_add(bytes);
        if self.modest[node.index()] {
            self.kept_modestly = self.kept_modestly.saturating_add(bytes);
        }
    }

    /// A step of its own for a group, and for all that waits if it is a kernel.
    fn begin(&mut self, group: usize) {
        let made = self.facts.made[group];
        if self.kept_modestly > 0 && self.live.saturating_add(made) > self.peak {
            self.flush();
        }
        let kernel = self.facts.kernel[group];
        let mut step = if kernel {
            std::mem::take(&mut self.waiting)
        } else {
            Vec::new()
        };
        step.push(group);
        self.push(step, kernel);
    }

    /// A step for all that waits.
    fn flush(&mut self) {
        let step = std::mem::take(&mut self.waiting);
        self.push(step, true);
    }

    fn push(&mut self, step: Vec<usize>, kernels: bool) {
        let made: i64 = step.iter().map(|g| self.facts.made[*g]).sum();
        let alive = self.live.saturating_add(made);
        self.peak = self.peak.max(alive);
        self.open = (kernels && self.facts.join).then_some(alive);
        if kernels {
            (self.kept, self.kept_modestly) = (0, 0);
            for group in &step[..] {
                for node in &self.facts.reads[*group] {
                    self.awaited[node.index()] = 0;
                    self.modest[node.index()] = false;
                }
            }
        }
        self.steps.push(step.clone());
        self.finish(&step);
    }

    /// Groups of the last step have run.
    fn finish(&mut self, groups: &[usize]) {
        for group in groups {
            self.done[*group] = true;
            self.live = self.live.saturating_add(self.facts.made[*group]);
            for node in &self.facts.needs.traffic[*group].writes {
                // What only its own group reads is gone with it.
                if self.facts.needs.readers[node.index()].is_empty() {
                    self.live -= self.facts.bytes[node.index()];
                }
            }
            for at in 0..self.facts.reads[*group].len() {
                self.read(self.facts.reads[*group][at]);
            }
        }
        for group in groups {
            for next in std::mem::take(&mut self.edges.after[*group]) {
                self.edges.before[next] -= 1;
                if self.edges.before[next] == 0 {
                    self.since[next] = self.steps.len();
                    self.ready.insert(self.key(next));
                }
            }
        }
    }

    /// One more reader of a node has run.
    fn read(&mut self, node: NodeId) {
        let (at, bytes) = (node.index(), self.facts.bytes[node.index()]);
        self.left[at] -= 1;
        if self.left[at] == 0 {
            self.live = self.live.saturating_sub(bytes);
        } else if self.left[at] == self.awaited[at] {
            self.keep(node);
        }
        if self.left[at] == 1 && bytes > 0 {
            let last = self.facts.needs.readers[at].iter();
            let Some(last) = last.copied().find(|g| !self.done[*g]) else {
                return;
            };
            let was_ready = self.ready.remove(&self.key(last));
            self.growth[last] = self.growth[last].saturating_sub(bytes);
            if was_ready {
                self.ready.insert(self.key(last));
            }
        }
    }
}
