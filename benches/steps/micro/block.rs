//! The memory of one operand: a block like those in which a session keeps its own.

use super::Failure;
use kiln::runtime::memory::AlignedBytes;

/// An operand. It begins at a cache line.
pub(crate) struct Block(AlignedBytes);

impl Block {
    /// An operand of `bytes` bytes, all 0.
    pub(crate) fn new(bytes: usize) -> Result<Block, Failure> {
        Ok(Block(AlignedBytes::zeroed(bytes)?))
    }

    /// An operand of `elements` numbers between -2 and 4, which repeat after 1009: what is summed must not cancel, what is compared
    /// must have both signs.
    pub(crate) fn filled(elements: usize) -> Result<Block, Failure> {
        let mut block = Block::new(elements * size_of::<f32>())?;
        for (i, x) in block.floats_mut().iter_mut().enumerate() {
            *x = ((i * 7919) % 1009) as f32 / 1009.0 * 6.0 - 2.0;
        }
        Ok(block)
    }

    /// A copy of native-endian elements.
    pub(crate) fn copied(bytes: &[u8]) -> Result<Block, Failure> {
        let mut block = Block::new(bytes.len())?;
        block.0.bytes_mut().copy_from_slice(bytes);
        Ok(block)
    }

    /// The elements of an f32 operand.
    pub(crate) fn floats(&self) -> &[f32] {
        let count = self.0.len() / size_of::<f32>();
        self.0.view(0, count).expect("a block begins aligned")
    }

    /// The elements of an f32 operand, for writing.
    pub(crate) fn floats_mut(&mut self) -> &mut [f32] {
        let count = self.0.len() / size_of::<f32>();
        self.0.view_mut(0, count).expect("a block begins aligned")
    }

    /// The element of an i64 scalar, for writing.
    pub(crate) fn count_mut(&mut self) -> &mut i64 {
        let scalar = self.0.view_mut(0, 1).expect("an i64 has eight bytes");
        &mut scalar[0]
    }
}

/// The operands of an element-wise loop: how many elements each has, the inputs, and the results.
pub(crate) type Operands<const INPUTS: usize, const OWN: usize> =
    (usize, [*const f32; INPUTS], [*mut f32; OWN]);

/// Addresses of operands that are as many as stated and equally long.
pub(crate) fn elementwise<const INPUTS: usize, const OWN: usize>(
    inputs: &[Block],
    own: &mut [Block],
) -> Operands<INPUTS, OWN> {
    let count = inputs[0].floats().len();
    assert_eq!((inputs.len(), own.len()), (INPUTS, OWN));
    let inputs = std::array::from_fn(|i| {
        let input = inputs[i].floats();
        assert_eq!(input.len(), count);
        input.as_ptr()
    });
    let own = std::array::from_fn(|i| {
        let own = own[i].floats_mut();
        assert_eq!(own.len(), count);
        own.as_mut_ptr()
    });
    (count, inputs, own)
}

/// How many rows of `columns` elements an operand has.
pub(crate) fn rows(operand: &[f32], columns: usize) -> usize {
    assert!(operand.len().is_multiple_of(columns));
    operand.len() / columns
}
