//! A session: params and state, drawn once and updated by each step, and the memory and threads that steps run on.
//!
//! A step whose feeds have the sizes of the step before compares them, puts their addresses into the plan's table and walks it. Other
//! sizes are looked for among the plans of earlier steps, and only new ones are solved, laid out and checked. A step that is refused,
//! by a feed, a limit, a guard or a custom op, has changed nothing, and the session goes on. Nothing here reads a clock or the environment.

use crate::binding::{FeedMismatch, Mismatch, check, check_names, list_inputs, solve_inputs};
use crate::errors::{OverLimit, SessionError, SetError, StepError};
use crate::executable::Loaded;
use crate::execute::{Refused, execute};
use crate::feed::{Feed, ToFeed};
use crate::initial::draw;
use crate::layout::{Span, lay_out_residents};
use crate::outputs::Outputs;
use crate::plan::{Plan, PlanError};
use crate::pool::{Pool, default_threads};
use crate::profile::{Profile, Recorder, Unwatched};
use crate::report::MemoryReport;
use crate::store::Store;
use crate::view::{ReadError, TensorView, list};
use kiln_ir::program::{Program, Step};
use kiln_ir::{Bindings, Role, Symbol};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// How many bindings keep their plans. The plan that was not used for longest makes room.
const MAX_PLANS: usize = 64;

/// How a session is opened.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// What initial values are drawn with.
    pub seed: u64,
    /// The number of threads, the caller's included; `None` takes one for each of the machine's. Results do not depend on it.
    pub threads: Option<NonZeroUsize>,
    /// The most bytes that the session may hold, as [`MemoryReport::total`] counts them.
    pub memory_limit: Option<usize>,
    /// Symbols that have the same value in every step. Those that no input has must be here, and so must those of params and state.
    pub bindings: Bindings,
}

impl SessionOptions {
    /// The seed, one thread for each of the machine's, no limit, and nothing bound.
    pub fn new(seed: u64) -> Self {
        SessionOptions {
            seed,
            ..SessionOptions::default()
        }
    }
}

/// Params, state, memory and threads of one run of a program.
pub struct Session {
    loaded: Arc<Loaded>,
    fixed: Bindings,
    limit: Option<usize>,
    pool: Pool,
    store: Store,
    /// Where each param and state lies, in the order of the program.
    residents: Vec<Span>,
    /// What the session holds whatever the binding.
    lasting: MemoryReport,
    plans: Vec<Plan>,
    /// The plan of the last step; `None` where the store may lack room for it.
    current: Option<usize>,
    /// Counts steps, to know which plan was not used for longest.
    clock: u64,
    /// Takes the time of launches, if it was asked to.
    recorder: Option<Recorder>,
}

impl Session {
    pub(crate) fn new(
        loaded: Arc<Loaded>,
        options: &SessionOptions,
    ) -> Result<Session, SessionError> {
        let program = &loaded.program;
        let fixed = options.bindings.clone();
        check_symbols(program, &fixed)?;
        let residents = lay_out_residents(program, &fixed).map_err(|(position, source)| {
            let resident = &program.residents[position];
            SessionError::Unbound {
                role: match resident.role {
                    Role::Param(_) => "param",
                    Role::State(_) | Role::Input => "state",
                },
                name: resident.name.clone(),
                ty: resident.ty.clone(),
                source: Box::new(source),
            }
        })?;
        let threads = options.threads.unwrap_or_else(default_threads);
        let lasting = MemoryReport {
            params: residents.params,
            state: residents.state,
            constants: loaded.constants.len(),
            threads: threads.get(),
            ..MemoryReport::default()
        };
        within(options.memory_limit, lasting, &fixed).map_err(SessionError::OverLimit)?;
        let bytes = residents.params.saturating_add(residents.state);
        let mut store = Store::new(bytes, threads.get())?;
        let mut pool = Pool::new(threads)?;
        draw(
            program,
            &residents.spans,
            options.seed,
            &mut store.residents,
            &mut pool,
        )?;
        Ok(Session {
            loaded,
            fixed,
            limit: options.memory_limit,
            pool,
            store,
            lasting,
            residents: residents.spans,
            plans: Vec::new(),
            current: None,
            clock: 0,
            recorder: None,
        })
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.loaded.program
    }

    /// The number of threads, the caller's included.
    pub fn threads(&self) -> NonZeroUsize {
        self.pool.threads()
    }

    /// What the session holds now: after the first step, enough for the largest binding so far.
    pub fn memory(&self) -> MemoryReport {
        self.store.grown(&self.lasting)
    }

    /// Takes the time of every launch from now on, or no longer; what was recorded before is forgotten.
    pub fn record(&mut self, on: bool) {
        let steps = self.loaded.program.steps.len();
        self.recorder = on.then(|| Recorder::new(steps));
    }

    /// What the steps since [`record`](Self::record) spent their time on; empty where nothing was recorded.
    pub fn profile(&self) -> Profile {
        let threads = self.threads().get();
        match &self.recorder {
            Some(recorder) => recorder.profile(&self.loaded.program, threads),
            None => Profile::empty(&self.loaded.program.name, threads),
        }
    }

    /// Runs one step on `feeds`, in the order in which the inputs are declared. A program without inputs is fed [`Feed::NONE`].
    ///
    /// Once the sizes of the feeds have been seen, a step allocates nothing.
    ///
    /// # Errors
    /// [`StepError`]; params and state are then as they were before, and the session can go on.
    pub fn step<F: ToFeed>(&mut self, feeds: &[F]) -> Result<Outputs<'_>, StepError> {
        let expected = self.loaded.program.inputs.len();
        if feeds.len() != expected {
            return Err(StepError::Feed(FeedMismatch::Count {
                expected,
                found: feeds.len(),
                inputs: list_inputs(&self.loaded.program.inputs),
            }));
        }
        self.run(&|input| feeds[input].to_feed())
    }

    /// Runs one step on named feeds, in any order.
    ///
    /// # Errors
    /// As [`Session::step`].
    pub fn step_named<F: ToFeed>(&mut self, feeds: &[(&str, F)]) -> Result<Outputs<'_>, StepError> {
        let loaded = Arc::clone(&self.loaded);
        let inputs = &loaded.program.inputs;
        check_names(inputs, feeds.iter().map(|(name, _)| *name))?;
        // The names are those of the inputs, each once, so every input finds its feed.
        self.run(&|input| {
            let named = feeds.iter().find(|(name, _)| *name == inputs[input].name);
            named.map_or(Feed::EMPTY, |(_, feed)| feed.to_feed())
        })
    }

    /// Params and state, in the order of the program.
    pub fn states(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        let spans = self.residents.iter();
        let all = self.loaded.program.residents.iter().zip(spans);
        all.map(|(resident, span)| {
            let bytes = &self.store.residents.bytes()[span.offset..span.offset + span.bytes];
            TensorView::new(&resident.name, resident.ty.dtype, &span.shape, bytes)
        })
    }

    /// A param or state by name, as it is between two steps.
    ///
    /// # Errors
    /// [`ReadError::UnknownName`].
    pub fn state(&self, name: &str) -> Result<TensorView<'_>, ReadError> {
        let found = self.states().find(|view| view.name() == name);
        found.ok_or_else(|| self.unknown(name))
    }

    /// Overwrites a param or state.
    ///
    /// # Errors
    /// [`SetError`]: an unknown name, another element type or another shape. Nothing is written then.
    pub fn set_state(&mut self, name: &str, value: impl ToFeed) -> Result<(), SetError> {
        let residents = &self.loaded.program.residents;
        let Some(position) = residents.iter().position(|r| r.name == name) else {
            return Err(SetError::Name(self.unknown(name)));
        };
        let (resident, span) = (&residents[position], &self.residents[position]);
        let value = value.to_feed();
        check(name, &resident.ty, &value)?;
        if value.shape() != span.shape || value.bytes().len() != span.bytes {
            return Err(SetError::Shape {
                mismatch: Mismatch::new(name, &resident.ty, &value),
                expected: span.shape.clone(),
            });
        }
        let range = span.offset..span.offset + span.bytes;
        self.store.residents.bytes_mut()[range].copy_from_slice(value.bytes());
        Ok(())
    }

    fn unknown(&self, name: &str) -> ReadError {
        let residents = &self.loaded.program.residents;
        let known = residents.iter().map(|r| r.name.as_str());
        ReadError::unknown("param or state", name, known)
    }

    fn run<'f>(&mut self, feed: &dyn Fn(usize) -> Feed<'f>) -> Result<Outputs<'_>, StepError> {
        let index = self.select(feed)?;
        let plan = &mut self.plans[index];
        plan.feed(feed).map_err(StepError::Plan)?;
        // SAFETY: the program is verified and `plan` was made from it. `select` made room in the store for the plan's layout and took the
        // addresses from there, `Plan::feed` found each feed to be as large as the layout of its input, and the feeds are borrowed for the
        // whole call. `&mut self` keeps every view of the session's memory away, so no feed lies in it either. `Store::reserve` holds
        // scratch for each thread of the pool. Whoever made the executable promised that program and code belong together.
        let done = unsafe {
            match &mut self.recorder {
                None => execute(plan, &mut self.pool, &*self.loaded.code, &mut Unwatched),
                Some(recorder) => execute(plan, &mut self.pool, &*self.loaded.code, recorder),
            }
        };
        if let Err(cause) = done {
            return Err(refused(&self.loaded.program, cause));
        }
        let plan = &self.plans[index];
        Ok(Outputs::new(
            &self.loaded.program.outputs,
            &plan.outputs,
            self.store.outputs.bytes(),
        ))
    }

    /// The plan for feeds of these sizes, attached to a store that has room for it.
    fn select<'f>(&mut self, feed: &dyn Fn(usize) -> Feed<'f>) -> Result<usize, StepError> {
        self.clock += 1;
        let fits = |plan: &Plan| plan.fits(feed);
        let last = self.current.filter(|index| fits(&self.plans[*index]));
        if let Some(index) = last {
            self.plans[index].used = self.clock;
            return Ok(index);
        }
        self.current = None;
        let index = match self.plans.iter().position(fits) {
            Some(index) => {
                self.make_room(self.plans[index].report, &Bindings::new())?;
                index
            }
            None => self.add_plan(feed)?,
        };
        let plan = &mut self.plans[index];
        plan.attach(&mut self.store, &self.loaded);
        plan.used = self.clock;
        self.current = Some(index);
        Ok(index)
    }

    fn add_plan<'f>(&mut self, feed: &dyn Fn(usize) -> Feed<'f>) -> Result<usize, StepError> {
        let program = &self.loaded.program;
        for (index, port) in program.inputs.iter().enumerate() {
            check(&port.name, &port.ty, &feed(index))?;
        }
        let bindings = solve_inputs(program, &self.fixed, feed).map_err(PlanError::Bind)?;
        let plan = Plan::new(&self.loaded, &bindings, self.pool.threads().get())?;
        if !plan.fits(feed) {
            // A feed that is not the same twice, or a program whose buffers have saturated sizes.
            return Err(StepError::Plan(PlanError::Unfit));
        }
        self.make_room(plan.report, &bindings)?;
        if self.plans.len() < MAX_PLANS {
            self.plans.push(plan);
            return Ok(self.plans.len() - 1);
        }
        let oldest = (0..self.plans.len()).min_by_key(|index| self.plans[*index].used);
        let index = oldest.unwrap_or(0);
        self.plans[index] = plan;
        Ok(index)
    }

    fn make_room(&mut self, wanted: MemoryReport, bindings: &Bindings) -> Result<(), StepError> {
        within(self.limit, self.store.grown(&wanted), bindings).map_err(StepError::OverLimit)?;
        Ok(self.store.reserve(&wanted)?)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.loaded.program.name;
        write!(f, "Session({name}, {} threads)", self.pool.threads())
    }
}

fn within(
    limit: Option<usize>,
    needed: MemoryReport,
    bindings: &Bindings,
) -> Result<(), Box<OverLimit>> {
    match limit {
        Some(limit) if needed.total() > limit => Err(Box::new(OverLimit {
            limit,
            needed,
            bindings: bindings.clone(),
        })),
        Some(_) | None => Ok(()),
    }
}

/// Every symbol of the options is one of the program.
fn check_symbols(program: &Program, fixed: &Bindings) -> Result<(), SessionError> {
    let known = program.symbols();
    match fixed.iter().find(|(symbol, _)| !known.contains(symbol)) {
        Some((symbol, _)) => Err(SessionError::UnknownSymbol {
            symbol: symbol.to_string(),
            known: list(known.iter().map(Symbol::name)),
        }),
        None => Ok(()),
    }
}

fn refused(program: &Program, cause: Refused) -> StepError {
    let (position, message) = match cause {
        Refused::Guard(position) => (position, "a guard did not hold".to_owned()),
        Refused::Call(failed) => *failed,
    };
    match program.steps.get(position) {
        Some(Step::Guard(guard)) => StepError::Guard {
            message: guard.message.clone(),
            location: guard.location.clone(),
        },
        Some(Step::Custom(custom)) => StepError::Call {
            op: custom.call.target.clone(),
            message,
            location: custom.location.clone(),
        },
        Some(
            Step::Kernel(_)
            | Step::Product(_)
            | Step::Convolution(_)
            | Step::Loop(_)
            | Step::While(_)
            | Step::Branch(_)
            | Step::Copy(_),
        )
        | None => StepError::Guard {
            message,
            location: format!("step {position}"),
        },
    }
}
