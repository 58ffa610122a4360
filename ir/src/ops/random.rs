//! `rng_bits`: random words as a pure function of key and counter.
//!
//! There is no hidden state: whoever gives the same key and counter gets the same words, whatever else the graph computes. No gradient
//! flows. Distributions are built on top, in the graph.

use super::{Effect, EvalCx, Rules, Vjp, arrays, exactly};
use crate::array::{Array, EvalError, Values};
use crate::attributes::{AttributeError, Attributes};
use crate::builder::Tensor;
use crate::diagnostic::{Kind, Refusal};
use crate::dtype::DType;
use crate::philox::philox4x32;
use crate::types::{Shape, TensorType};
use serde::{Deserialize, Serialize};

/// Words of Philox4x32-10. The operands are `key: u32[2]` and `counter: u32[2]`, the result is u32 of any shape.
///
/// The element at row-major position `i` is word `i mod 4` of
/// `philox4x32([lo(i div 4), hi(i div 4), counter[0], counter[1]], [key[0], key[1]])`, where `lo` and `hi` are the lower and upper 32
/// bits. So it is `Stream::at(counter[0], counter[1]).word(i)` of the [`Stream`](crate::philox::Stream) that has the key. By
/// convention the key is [`stream_key`](crate::philox::stream_key) of seed, scope path and ordinal within the scope, and the counter is
/// (step, scan iteration).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RngBits {
    /// The shape of the result.
    pub shape: Shape,
}

impl RngBits {
    pub(super) fn parse(
        name: &str,
        _: &mut Attributes,
        ty: &TensorType,
    ) -> Option<Result<Self, AttributeError>> {
        (name == "rng_bits").then(|| {
            Ok(Self {
                shape: ty.shape.clone(),
            })
        })
    }

    pub(super) fn representatives() -> Vec<Self> {
        vec![Self {
            shape: Shape::from([5]),
        }]
    }
}

impl Rules for RngBits {
    fn name(&self) -> &'static str {
        "rng_bits"
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Refusal> {
        let wanted = TensorType::new(DType::U32, [2]);
        for (what, ty) in ["key", "counter"]
            .iter()
            .zip(exactly::<2>("rng_bits", operands)?)
        {
            if *ty != wanted {
                return Err(Refusal::new(
                    Kind::Type,
                    format!("`rng_bits` with a {what} of type {ty}, not {wanted}"),
                ));
            }
        }
        Ok(TensorType::new(DType::U32, &self.shape))
    }

    fn vjp<'g>(&self, _: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        vec![None, None]
    }

    fn eval(&self, operands: &[&Array], cx: &EvalCx<'_>) -> Result<Array, EvalError> {
        let [key, counter] = arrays(operands)?;
        let (&[k0, k1], &[c2, c3]) = (key.ints()?, counter.ints()?) else {
            return Err(EvalError::Invalid(
                "`rng_bits` needs two words of key and two of counter".into(),
            ));
        };
        // Values of u32 arrays are in range, so the casts lose nothing.
        let (key, counter) = ([k0 as u32, k1 as u32], [c2 as u32, c3 as u32]);
        let element = |i: usize| i64::from(word(key, counter, i as u64));
        let values = Values::Int((0..cx.count).map(element).collect());
        Array::new(DType::U32, cx.shape.to_vec(), values)
    }

    fn attributes(&self) -> Attributes {
        Attributes::none()
    }
}

/// The word at row-major position `i`.
fn word(key: [u32; 2], [c2, c3]: [u32; 2], i: u64) -> u32 {
    let block = i / 4;
    let counter = [block as u32, (block >> 32) as u32, c2, c3];
    philox4x32(counter, key)[(i % 4) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::philox::Stream;

    #[test]
    fn far_positions_are_words_of_the_stream_too() {
        let stream = Stream::new(5, "far", 1);
        let at = stream.at(7, u32::MAX);
        for i in [0, 3, 4, (1 << 34) - 1, 1 << 34, (1 << 40) + 6, u64::MAX] {
            assert_eq!(word(stream.key(), [7, u32::MAX], i), at.word(i), "{i}");
        }
    }
}
