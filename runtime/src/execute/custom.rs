//! The call of a custom op: memory of the session lent to a user's code.

use super::{Refused, Run};
use crate::plan::CustomStep;
use kiln_ir::Call;
use std::sync::atomic::Ordering;

impl Run<'_> {
    /// Calls a custom op on zeroed results. Nothing is allocated here; the op's code does as it likes.
    ///
    /// # Safety
    /// As [`execute`](super::execute).
    pub(super) unsafe fn custom(&self, custom: &CustomStep) -> Result<(), Refused> {
        let first_output = custom.inputs.len();
        // An empty tensor may have no address.
        let place = |tensor: usize| {
            let bytes = *custom.bytes.get(tensor).filter(|bytes| **bytes > 0)?;
            Some((self.address(custom.addresses + tensor).0, bytes))
        };
        for (position, taken) in custom.taken.iter().enumerate() {
            taken.store(false, Ordering::Relaxed);
            if let Some((address, bytes)) = place(first_output + position) {
                // SAFETY: the caller's promise: so many bytes of the session begin there, and a verified program has no other tensor of
                // this call in them.
                unsafe { address.write_bytes(0, bytes) }
            }
        }
        let read = |position: usize| {
            (position < first_output).then(|| match place(position) {
                // SAFETY: as above; what wrote the elements is done, and nothing writes them while the op reads.
                Some((address, bytes)) => unsafe { std::slice::from_raw_parts(address, bytes) },
                None => &[],
            })
        };
        let mut take = |position: usize| {
            let before = custom.taken.get(position)?.swap(true, Ordering::Relaxed);
            (!before).then(|| match place(first_output + position) {
                // SAFETY: as above, and each result is lent once, so that nobody else has these bytes. All of them have been written.
                Some((address, bytes)) => unsafe { std::slice::from_raw_parts_mut(address, bytes) },
                None => &mut [],
            })
        };
        let (inputs, outputs) = (&custom.inputs, &custom.outputs);
        Call::new(&custom.attributes, inputs, outputs, &read, &mut take)
            .run(&*custom.op)
            .map_err(|message| Refused::Call(Box::new((custom.step, message))))
    }
}
