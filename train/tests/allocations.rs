//! `fit` allocates for an epoch, and nothing for a batch. The file holds one test, so that nothing else runs while allocations are counted.

use kiln_nn::{Accuracy, Adam, Sequential, SparseCrossEntropy};
use kiln_train::data::{Column, Dataset};
use kiln_train::{Fit, Trainer};
use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn data(examples: usize) -> Dataset {
    Dataset::new([
        Column::new("x", [examples, 4], vec![0.5f32; examples * 4]).unwrap(),
        Column::new("y", [examples], vec![1u8; examples]).unwrap(),
    ])
    .unwrap()
}

#[test]
fn an_epoch_of_many_batches_allocates_as_one_of_few() {
    let model = Sequential::new([4]).dense(8).relu().dense(2);
    let mut trainer = Trainer::new(model)
        .loss(SparseCrossEntropy)
        .metric(Accuracy)
        .optimizer(Adam::new(1e-3))
        .threads(NonZeroUsize::MIN)
        .compile()
        .unwrap();
    let (few, many) = (data(64), data(6400));
    let mut count = |data: &Dataset| {
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        trainer.fit(data, Fit::epochs(1).batch(16).quiet()).unwrap();
        ALLOCATIONS.load(Ordering::SeqCst) - before
    };
    count(&few);
    // A history grows from call to call, a vector of epochs by doubling.
    let (few, many) = (count(&few), count(&many));
    assert!(
        few > 0 && many <= few + 10,
        "{few} for 4 batches, {many} for 400"
    );
}
