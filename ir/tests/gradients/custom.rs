//! Custom ops whose vjps are made of custom calls and of ordinary ops.

use crate::check::Case;
use kiln_ir::{
    Call, CallAttributes, CallVjp, CustomOp, DType, ScanOptions, Tensor, TensorType, Yield,
    register,
};

fn same(operands: &[&TensorType], count: usize) -> Result<TensorType, String> {
    match operands {
        [first, rest @ ..]
            if operands.len() == count
                && first.dtype == DType::F64
                && rest.iter().all(|ty| ty == first) =>
        {
            Ok((*first).clone())
        }
        _ => Err(format!("it takes {count} f64 tensors of one type")),
    }
}

/// `x * y`, whose gradient is made of itself.
struct Times;

impl CustomOp for Times {
    fn name(&self) -> &str {
        "gradients/times"
    }

    fn infer(
        &self,
        _: &CallAttributes,
        operands: &[&TensorType],
    ) -> Result<Vec<TensorType>, String> {
        Ok(vec![same(operands, 2)?])
    }

    fn evaluate(&self, call: &mut Call<'_>) -> Result<(), String> {
        let (x, y) = (call.input::<f64>(0)?, call.input::<f64>(1)?);
        let products = x.iter().zip(y).map(|(x, y)| x * y);
        for (to, product) in call.output::<f64>(0)?.iter_mut().zip(products) {
            *to = product;
        }
        Ok(())
    }

    fn vjp<'g>(&self, cx: &CallVjp<'g>) -> Option<Vec<Option<Tensor<'g>>>> {
        let by = |other: Tensor<'g>| {
            let [cotangent] = times(cx.cotangent(0), other);
            Some(cotangent)
        };
        Some(vec![by(cx.operands[1]), by(cx.operands[0])])
    }
}

fn times<'g>(x: Tensor<'g>, y: Tensor<'g>) -> [Tensor<'g>; 1] {
    x.builder().custom_call("gradients/times", &[], &[x, y])
}

/// The sine and the cosine of `x f`, for a number `f`.
struct Turn;

impl CustomOp for Turn {
    fn name(&self) -> &str {
        "gradients/turn"
    }

    fn infer(
        &self,
        attributes: &CallAttributes,
        operands: &[&TensorType],
    ) -> Result<Vec<TensorType>, String> {
        attributes.parse::<f64>("frequency")?;
        let ty = same(operands, 1)?;
        Ok(vec![ty.clone(), ty])
    }

    fn evaluate(&self, call: &mut Call<'_>) -> Result<(), String> {
        let frequency: f64 = call.attributes().parse("frequency")?;
        let x = call.input::<f64>(0)?;
        let (sines, cosines) = (call.output::<f64>(0)?, call.output::<f64>(1)?);
        for (i, x) in x.iter().enumerate() {
            (sines[i], cosines[i]) = (x * frequency).sin_cos();
        }
        Ok(())
    }

    fn vjp<'g>(&self, cx: &CallVjp<'g>) -> Option<Vec<Option<Tensor<'g>>>> {
        let frequency: f64 = cx.attributes.parse("frequency").ok()?;
        let (sine, cosine) = (cx.results[0], cx.results[1]);
        let slope = cx.cotangent(0) * cosine - cx.cotangent(1) * sine;
        Some(vec![Some(slope * frequency)])
    }
}

fn turn<'g>(x: Tensor<'g>) -> [Tensor<'g>; 2] {
    let attributes = [("frequency", "1.5")];
    x.builder().custom_call("gradients/turn", &attributes, &[x])
}

pub(crate) fn cases() -> Vec<Case> {
    register(Times).expect("its own name");
    register(Turn).expect("its own name");
    vec![
        Case::new("custom_call", &[&[2, 3], &[2, 3]], (-0.9, 0.9), |p| {
            let [product] = times(p[0], p[1]);
            let [cube] = times(product, p[0]);
            cube
        }),
        // Both results, one of them, and the other.
        Case::new("custom_call", &[&[4]], (-0.9, 0.9), |p| {
            let [sine, cosine] = turn(p[0]);
            sine.square() * 0.3 + cosine
        }),
        Case::new("custom_call", &[&[4]], (-0.9, 0.9), |p| turn(p[0])[1]),
        Case::new("custom_call", &[&[3, 2]], (-0.9, 0.9), |p| turn(p[0])[0])
            .declared(&[&["n", "2"]]),
        // In the body of a loop, with a captured operand.
        Case::new("scan", &[&[3, 2], &[2], &[2]], (-0.9, 0.9), |p| {
            let [xs, h, w] = [p[0], p[1], p[2]];
            let scanned = xs
                .builder()
                .scan(&ScanOptions::default(), &[h], &[xs], |it| {
                    let [sine, cosine] = turn(it.entry(0));
                    let [next] = it.builder().custom_call(
                        "gradients/times",
                        &[],
                        &[it.carry(0) + cosine, w],
                    );
                    Yield::new(&[next], &[sine * next])
                });
            scanned.stacked[0]
        }),
    ]
}
