//! From when to when each buffer of the arena is used, and each that is local to a thread.
//!
//! In a flat list of steps this is from the first mention to the last, and what mentions a stretch mentions the whole. A loop goes back, so what
//! a body uses and others do too, or another iteration, lives as long as the whole loop; what only one body mentions is written anew in each
//! iteration before it is read.

use kiln_ir::BufferId;
use kiln_ir::program::{Buffer, Home, LiveRange, Step, stretch_of};
use std::collections::BTreeSet;

pub(super) fn set_ranges(buffers: &mut [Buffer], steps: &[Step]) {
    let mut touched: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); buffers.len()];
    let whole = |id: BufferId| stretch_of(buffers, id).map_or(id, |stretch| stretch.of);
    let end = |position: usize| steps[position].bodies(position).second.end - 1;
    for (position, step) in steps.iter().enumerate() {
        for id in step.buffers() {
            if let Some(touched) = touched.get_mut(whole(id).index()) {
                touched.insert(position);
            }
        }
    }
    // An entry of a buffer is another one in each iteration, so the whole buffer is touched by the whole loop, even if no step is left that
    // looks at the entry.
    for buffer in buffers.iter() {
        if let Home::Slice(slice) = &buffer.home
            && let Some(touched) = touched.get_mut(whole(slice.of).index())
        {
            touched.extend([slice.at, end(slice.at)]);
        }
    }
    // Those within others come later, and are looked at first.
    let loops = steps.iter().enumerate().rev();
    let loops = loops.filter(|(_, step)| matches!(step, Step::Loop(_) | Step::While(_)));
    for (position, _) in loops {
        let body = position + 1..=end(position);
        for touched in &mut touched {
            let inside = touched.range(body.clone()).next().is_some();
            if inside && touched.iter().any(|at| !body.contains(at)) {
                touched.extend([position, *body.end()]);
            }
        }
    }
    for (buffer, touched) in buffers.iter_mut().zip(&touched) {
        if let (Home::Arena(live) | Home::Local(live), Some(first), Some(last)) =
            (&mut buffer.home, touched.first(), touched.last())
        {
            *live = LiveRange {
                first: *first,
                last: *last,
            };
        }
    }
}
