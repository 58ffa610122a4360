//! What all optimizers have in common: a rate with a schedule, decoupled decay, groups of params, accumulation and averages of weights.
//!
//! A rule asks [`Settings::begin`] for its params and rates, and stores through [`Run`]: how a step that only accumulates leaves
//! everything else as it is, and how weights decay, are constrained and averaged, is written once. What is not asked for adds no node.

use super::group::Group;
use super::{Trained, learning_rate, own_scope, trained};
use crate::range::in_range;
use crate::schedules::Schedule;
use kiln_ir::{Builder, DType, Init, ScopeGuard, Tensor};
use std::fmt;
use std::sync::Arc;

/// The settings that every optimizer has.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) rate: f64,
    pub(super) schedule: Option<Arc<dyn Schedule>>,
    pub(super) decay: f64,
    /// Whether params with fewer than two axes decay too.
    pub(super) decay_vectors: bool,
    pub(super) groups: Vec<Group>,
    pub(super) accumulate: u32,
    pub(super) average: Option<f64>,
}

impl Settings {
    pub(super) fn new(name: &str, rate: f64) -> Self {
        Self {
            name: name.to_owned(),
            rate,
            schedule: None,
            decay: 0.0,
            decay_vectors: false,
            groups: Vec::new(),
            accumulate: 1,
            average: None,
        }
    }

    /// Whether these settings and `others`, each a value with its name and range, are in range; those that are not are reported.
    #[track_caller]
    fn sane(&self, builder: &Builder, others: &[(&str, f64, Range)]) -> bool {
        let mut all = vec![
            ("learning rate", self.rate, Range::NotNegative),
            ("weight decay", self.decay, Range::NotNegative),
            (
                "accumulated steps",
                f64::from(self.accumulate),
                Range::Count,
            ),
        ];
        all.extend(
            self.average
                .map(|m| ("momentum of the average", m, Range::Share)),
        );
        for group in &self.groups {
            all.push(("rate of the group", group.rate, Range::NotNegative));
            all.extend(
                group
                    .decay
                    .map(|d| ("weight decay of the group", d, Range::NotNegative)),
            );
            all.extend(
                group
                    .max_norm
                    .map(|n| ("largest norm of the group", n, Range::Positive)),
            );
        }
        all.extend(others);
        let mut sane = true;
        for (setting, value, range) in all {
            sane &= range.allows(builder, setting, value);
        }
        sane
    }

    /// Opens the scope, declares the learning rate, and accumulates gradients where that is asked for. None where one of these settings or of
    /// `others`, each a value with its name and range, is out of range, which is reported.
    #[track_caller]
    pub(super) fn begin<'g>(
        &self,
        builder: &'g Builder,
        pairs: &[(Tensor<'g>, Tensor<'g>)],
        others: &[(&str, f64, Range)],
    ) -> Option<Run<'g, '_>> {
        if !self.sane(builder, others) {
            return None;
        }
        let scopes = own_scope(builder, &self.name);
        let params = trained(pairs);
        let rate = learning_rate(builder, &params, self.rate);
        let scalar = rate.ty()?.dtype;
        let mut run = Run {
            settings: self,
            builder,
            rate,
            scalar,
            params,
            kept: None,
            due: None,
            averaging: None,
            _scopes: scopes,
        };
        run.accumulate();
        if let Some(schedule) = &self.schedule {
            let (before, _) = run.clock();
            run.rate = rate * schedule.factor(before.convert(scalar));
        }
        if let Some(momentum) = self.average {
            let (before, _) = run.clock();
            run.averaging = Some(before.ne(0.0).convert(DType::F64) * momentum);
        }
        run.kept = (self.decay > 0.0).then(|| 1.0 - run.rate * self.decay);
        Some(run)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("name", &self.name)
            .field("rate", &self.rate)
            .field("schedule", &self.schedule.is_some())
            .field("decay", &self.decay)
            .field("decay_vectors", &self.decay_vectors)
            .field("groups", &self.groups)
            .field("accumulate", &self.accumulate)
            .field("average", &self.average)
            .finish()
    }
}

/// Where a setting lies.
#[derive(Clone, Copy)]
pub(super) enum Range {
    /// At 0 or above.
    NotNegative,
    /// Above 0.
    Positive,
    /// From 0 to less than 1.
    Share,
    /// At 1 or above.
    Count,
}

impl Range {
    /// Whether a setting of an optimizer lies there; if not it is reported.
    #[track_caller]
    pub(super) fn allows(self, builder: &Builder, setting: &str, value: f64) -> bool {
        in_range(
            builder,
            "optimizer",
            self.holds(value),
            setting,
            value,
            self,
        )
    }

    fn holds(self, value: f64) -> bool {
        match self {
            Range::NotNegative => value.is_finite() && value >= 0.0,
            Range::Positive => value.is_finite() && value > 0.0,
            Range::Share => (0.0..1.0).contains(&value),
            Range::Count => value >= 1.0,
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Range::NotNegative => "at 0 or above",
            Range::Positive => "above 0",
            Range::Share => "from 0 to less than 1",
            Range::Count => "at 1 or above",
        })
    }
}

/// One step of an optimizer under construction.
pub(super) struct Run<'g, 's> {
    settings: &'s Settings,
    builder: &'g Builder,
    /// The rate of this step, f64 where a param is, else f32: the state times the schedule.
    pub(super) rate: Tensor<'g>,
    /// The type of the rate, and of what is computed once for all params.
    pub(super) scalar: DType,
    pub(super) params: Vec<Trained<'g>>,
    /// Whether this step moves the params, where not every one does.
    due: Option<Tensor<'g>>,
    /// The momentum of the averages in this step, f64.
    averaging: Option<Tensor<'g>>,
    /// What a step leaves of weights of no group that decay, `1 - rate decay`; none where they do not decay.
    kept: Option<Tensor<'g>>,
    _scopes: (ScopeGuard<'g>, ScopeGuard<'g>),
}

impl<'g> Run<'g, '_> {
    /// How many times params were moved before this step, and with it: the state `step`, i64, made by the first who asks.
    #[track_caller]
    fn clock(&self) -> (Tensor<'g>, Tensor<'g>) {
        let path = format!("{}/step", self.settings.name);
        if let Some(before) = self.builder.find(&path) {
            return (before, before + 1.0);
        }
        let before = self.builder.state("step", DType::I64, (), Init::zeros());
        let step = before + 1.0;
        self.update(before, step);
        (before, step)
    }

    /// The number of this step as `dtype`, from 1.
    #[track_caller]
    pub(super) fn time(&self, dtype: DType) -> Tensor<'g> {
        let (_, step) = self.clock();
        step.convert(dtype)
    }

    /// `target := value` in the steps that move params.
    #[track_caller]
    pub(super) fn update(&self, target: Tensor<'g>, value: Tensor<'g>) {
        let value = match self.due {
            Some(due) => value.where_(due, target),
            None => value,
        };
        self.builder.update(target, value);
    }

    /// The rate of a param in its element type.
    #[track_caller]
    pub(super) fn rate_of(&self, one: &Trained<'g>, rate: Tensor<'g>) -> Tensor<'g> {
        let rate = rate.convert(one.dtype);
        match self.group(one) {
            Some(group) if group.rate != 1.0 => rate * group.rate,
            Some(_) | None => rate,
        }
    }

    /// The new value of a param: decayed, less `change`, and constrained; and its average.
    #[track_caller]
    pub(super) fn descend(&self, one: &Trained<'g>, change: Tensor<'g>) {
        let kept = match self.group(one) {
            Some(group) if group.decay.is_some() || group.rate != 1.0 => {
                let decay = match group.decay {
                    Some(decay) => decay,
                    None if self.decays(one) => self.settings.decay,
                    None => 0.0,
                };
                (decay > 0.0).then(|| 1.0 - self.rate * (group.rate * decay))
            }
            Some(_) | None => self.kept.filter(|_| self.decays(one)),
        };
        let base = match kept {
            Some(kept) => one.param * kept.convert(one.dtype),
            None => one.param,
        };
        let mut next = base - change;
        if let Some(limit) = self.group(one).and_then(|group| group.max_norm) {
            next = super::group::constrained(next, limit);
        }
        self.update(one.param, next);
        if let (Some(momentum), Some(average)) = (
            self.averaging,
            self.settings.average.and_then(|_| one.memory("average")),
        ) {
            let momentum = momentum.convert(one.dtype);
            self.update(average, average * momentum + next * (1.0 - momentum));
        }
    }

    /// Whether a param of no group decays.
    fn decays(&self, one: &Trained<'g>) -> bool {
        let rank = one.param.ty().map_or(0, |ty| ty.rank());
        rank >= 2 || self.settings.decay_vectors
    }

    /// The first group that a param belongs to.
    fn group(&self, one: &Trained<'g>) -> Option<&Group> {
        let mut groups = self.settings.groups.iter();
        groups.find(|group| group.holds(&one.name))
    }

    /// Replaces gradients by their mean over the steps since params moved last.
    #[track_caller]
    fn accumulate(&mut self) {
        let steps = self.settings.accumulate;
        if steps < 2 {
            return;
        }
        let builder = self.builder;
        let count = builder.state("accumulated", DType::I64, (), Init::zeros());
        let due = (count + 1.0).ge(f64::from(steps));
        let none = builder.splat(DType::I64, (), 0.0);
        builder.update(count, none.where_(due, count + 1.0));
        for one in &mut self.params {
            let Some(sum) = one.memory("accumulated") else {
                continue;
            };
            let total = sum + one.gradient;
            if let Some(ty) = total.ty() {
                let none = builder.splat(ty.dtype, &ty.shape, 0.0);
                builder.update(sum, none.where_(due, total));
            }
            one.gradient = total * (1.0 / f64::from(steps));
        }
        self.due = Some(due);
    }
}

/// The methods by which all optimizers are set, on the settings in `$field`.
macro_rules! common_settings {
    ($optimizer:ident, $($field:ident).+) => {
        impl $optimizer {
            /// Another scope for the states: for a second optimizer in one graph.
            pub fn named(mut self, name: &str) -> Self {
                name.clone_into(&mut self.$($field).+.name);
                self
            }

            /// Multiplies the learning rate with a function of the number of steps done. The state `learning_rate` is that before the
            /// multiplication, so it may still be set or lowered between steps. Counts in the state `step`.
            pub fn schedule(mut self, schedule: impl crate::schedules::Schedule + 'static) -> Self {
                self.$($field).+.schedule = Some(std::sync::Arc::new(schedule));
                self
            }

            /// Decoupled decay: how much of a weight, times the learning rate, a step takes away; 0 or more. The gradient knows nothing of
            /// it. Params with fewer than two axes, which are biases and gains, do not decay unless `decay_vectors` or a group says so.
            pub fn weight_decay(mut self, strength: f64) -> Self {
                self.$($field).+.decay = strength;
                self
            }

            /// Lets params with fewer than two axes decay too.
            pub fn decay_vectors(mut self) -> Self {
                self.$($field).+.decay_vectors = true;
                self
            }

            /// Treats some params otherwise. A param belongs to the first group that holds it.
            pub fn group(mut self, group: crate::optimizers::Group) -> Self {
                self.$($field).+.groups.push(group);
                self
            }

            /// Moves params only in every step number `steps`, by the mean of the gradients since: batches that are that many times as
            /// large in the memory of one. States: `accumulated` and `accumulated/NAME`. Behind a clip, each gradient is clipped by itself.
            pub fn accumulate(mut self, steps: u32) -> Self {
                self.$($field).+.accumulate = steps;
                self
            }

            /// Keeps an exponential average of each param, `a := momentum a + (1 - momentum) w` after a step and `w` after the first, in the
            /// state `average/NAME`: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (SIAM Journal on Control
            /// and Optimization 30, 1992), in the form of Keras's `use_ema`. [`average_of`](crate::optimizers::average_of) names the
            /// state, whose value is put into a session that evaluates in place of the param's.
            pub fn averaged(mut self, momentum: f64) -> Self {
                self.$($field).+.average = Some(momentum);
                self
            }
        }
    };
}
pub(super) use common_settings;
