//! Programs as data: the printed form, the two serde forms, and one violation of each rule of the verifier.

#[path = "common/refused.rs"]
mod refused;

use kiln_ir::program::{
    Access, Buffer, Guard, Home, Launch, LiveRange, Matrix, Port, Product, ProductSummation,
    Program, Resident, Rule, Step,
};
use kiln_ir::{BufferId, DType, Dim, Init, KernelId, Role, TensorType};

fn b() -> Dim {
    Dim::symbol("b")
}

fn buffer(name: &str, dtype: DType, elements: impl Into<Dim>, home: Home) -> Buffer {
    Buffer {
        name: name.into(),
        dtype,
        elements: elements.into(),
        home,
    }
}

fn arena(first: usize, last: usize) -> Home {
    Home::Arena(LiveRange { first, last })
}

fn launch(kernel: usize, arguments: &[(usize, Access)], total: impl Into<Dim>) -> Launch {
    Launch {
        kernel: KernelId::new(kernel),
        arguments: arguments.iter().map(|(i, _)| BufferId::new(*i)).collect(),
        access: arguments.iter().map(|(_, access)| *access).collect(),
        sizes: vec![b()],
        total: total.into(),
        grain: 1,
        work: Dim::from(3),
    }
}

fn matrix(buffer: usize, rows: i64, columns: i64) -> Matrix {
    Matrix {
        buffer: BufferId::new(buffer),
        offset: Dim::from(0),
        row_stride: Dim::from(rows),
        column_stride: Dim::from(columns),
        batch_strides: Vec::new(),
    }
}

/// One step of a linear model: a product with its epilogue, a finite loss, and the update.
fn linear() -> Program {
    let f32 = DType::F32;
    Program {
        name: "linear".into(),
        inputs: vec![Port {
            name: "x".into(),
            ty: TensorType::new(f32, (b(), 4)),
            buffer: BufferId::new(0),
        }],
        residents: vec![Resident {
            name: "w".into(),
            role: Role::Param(Init::uniform(0.5)),
            ty: TensorType::new(f32, (4, 3)),
            buffer: BufferId::new(1),
        }],
        outputs: vec![Port {
            name: "loss".into(),
            ty: TensorType::new(f32, ()),
            buffer: BufferId::new(2),
        }],
        buffers: vec![
            buffer("x", f32, b() * 4, Home::Input),
            buffer("w", f32, 12, Home::Resident),
            buffer("loss", f32, 1, Home::Output),
            buffer("x . w", f32, b() * 3, arena(0, 1)),
            buffer("finite", DType::Bool, 1, arena(1, 2)),
            buffer("rate", f32, 1, Home::Constant([0, 0, 0, 63].into())),
            buffer("row", f32, 3, Home::Scratch),
        ],
        kernels: vec!["relu".into(), "loss".into(), "update".into()],
        requirements: Vec::new(),
        steps: vec![
            Step::Product(Product {
                name: "x . w".into(),
                dtype: f32,
                accumulate: DType::F64,
                summation: ProductSummation::Chain,
                batch: Vec::new(),
                m: b(),
                n: Dim::from(3),
                k: Dim::from(4),
                lhs: matrix(0, 4, 1),
                rhs: matrix(1, 3, 1),
                dst: matrix(3, 3, 1),
                epilogue: Some(launch(0, &[(3, Access::ReadWrite)], b())),
            }),
            Step::Kernel(vec![launch(
                1,
                &[
                    (3, Access::Read),
                    (2, Access::Write),
                    (4, Access::Write),
                    (6, Access::ReadWrite),
                ],
                1,
            )]),
            Step::Guard(Guard {
                condition: BufferId::new(4),
                message: "the loss is not finite".into(),
                location: "main.rs:7:1".into(),
            }),
            Step::Kernel(vec![Launch {
                grain: 16,
                ..launch(
                    2,
                    &[(1, Access::Read), (5, Access::Read), (1, Access::Write)],
                    12,
                )
            }]),
        ],
    }
}

#[test]
fn a_program_prints_its_signature_buffers_and_steps() {
    assert_eq!(
        linear().to_string(),
        r#"program @linear<b> {
  input x: f32[b, 4] in $0
  param w: f32[4, 3] = uniform(-0.5, 0.5) in $1
  output loss: f32[] in $2
buffers:
  $0: f32[4*b] input "x"
  $1: f32[12] resident "w"
  $2: f32[1] output "loss"
  $3: f32[3*b] arena, live 0..=1 "x . w"
  $4: bool[1] arena, live 1..=2 "finite"
  $5: f32[1] constant of 4 bytes "rate"
  $6: f32[3] scratch "row"
steps:
  0: product "x . w" f32[b, 3] = [b, 4] x [4, 3] summed in f64
       dst $3 strides [3, 1]
       lhs $0 strides [4, 1]
       rhs $1 strides [3, 1]
       epilogue k0 relu(update $3) over b, sizes [b], work 3
  1: kernel k1 loss(read $3, write $2, write $4, update $6) over 1, sizes [b], work 3
  2: guard $4 "the loss is not finite" at "main.rs:7:1"
  3: kernel k2 update(read $1, read $5, write $1) over 12 by 16, sizes [b], work 3
}
"#
    );
}

#[test]
fn both_serde_forms_give_the_program_back() {
    let program = linear();
    let json = serde_json::to_string(&program).unwrap();
    assert_eq!(serde_json::from_str::<Program>(&json).unwrap(), program);
    let bytes = postcard::to_stdvec(&program).unwrap();
    assert_eq!(postcard::from_bytes::<Program>(&bytes).unwrap(), program);
    for end in 0..bytes.len() {
        assert!(postcard::from_bytes::<Program>(&bytes[..end]).is_err());
    }
}

#[test]
fn a_good_program_verifies() {
    assert_eq!(linear().verify(), Ok(()));
}

fn as_product(program: &mut Program) -> &mut Product {
    match &mut program.steps[0] {
        Step::Product(product) => product,
        other => panic!("step 0 is a product, not {other:?}"),
    }
}

fn as_kernel(program: &mut Program, step: usize) -> &mut Launch {
    match &mut program.steps[step] {
        Step::Kernel(parts) => &mut parts[0],
        other => panic!("step {step} is a kernel, not {other:?}"),
    }
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Program), expected: &[(Rule, &str)]) {
    refused::refused(linear(), change, expected);
}

#[test]
fn the_signature_must_fit_its_buffers() {
    refused(
        |p| p.outputs[0].buffer = BufferId::new(77),
        &[
            (Rule::Exists, "output `loss`: there is no buffer $77"),
            (
                Rule::SignatureHome,
                "$2 (loss): it is at home in output, but nothing there has it",
            ),
        ],
    );
    refused(
        |p| p.residents[0].name = "x".into(),
        &[(
            Rule::UniqueNames,
            "resident `x`: input `x` has the same name",
        )],
    );
    refused(
        |p| p.residents[0].role = Role::Input,
        &[(Rule::ResidentRole, "resident `w`: its role is input")],
    );
    refused(
        |p| p.inputs[0].ty = TensorType::new(DType::F64, (b(), 4)),
        &[(
            Rule::SignatureType,
            "input `x`: it is f64[b, 4], but $0 holds f32[4*b]",
        )],
    );
    refused(
        |p| {
            let mut twin = p.outputs[0].clone();
            twin.name = "twin".into();
            p.outputs.push(twin);
        },
        &[(
            Rule::SignatureHome,
            "output `twin`: $2 belongs to output `loss` already",
        )],
    );
    refused(
        |p| p.buffers[2].home = arena(1, 1),
        &[(
            Rule::SignatureHome,
            "output `loss`: $2 is at home in arena, live 1..=1",
        )],
    );
}

#[test]
fn constants_hold_their_elements() {
    refused(
        |p| p.buffers[5].elements = Dim::from(2),
        &[(Rule::ConstantBytes, "$5 (rate): f32[2] has 4 bytes")],
    );
    refused(
        |p| p.buffers[5] = buffer("mask", DType::Bool, 2, Home::Constant([1, 2].into())),
        &[(
            Rule::ConstantBytes,
            "$5 (mask): a byte of a bool is neither 0 nor 1",
        )],
    );
    refused(
        |p| p.buffers[5].elements = b(),
        &[(Rule::ConstantBytes, "$5 (rate): f32[b] has 4 bytes")],
    );
}

#[test]
fn steps_keep_to_live_ranges_and_to_what_was_written() {
    refused(
        |p| p.buffers[3].home = arena(0, 0),
        &[(
            Rule::LiveRange,
            "step 1: it uses $3 (x . w), which lives 0..=0",
        )],
    );
    refused(
        |p| p.buffers[3].home = arena(0, 9),
        &[(
            Rule::LiveRange,
            "$3 (x . w): it lives 0..=9 in a program of 4 steps",
        )],
    );
    refused(
        |p| as_kernel(p, 1).access[1] = Access::Read,
        &[
            (
                Rule::Written,
                "step 1: it reads $2 (loss), which nothing has written yet",
            ),
            (Rule::Written, "output `loss`: no step writes it"),
        ],
    );
    refused(
        |p| as_kernel(p, 3).access[1] = Access::Write,
        &[(
            Rule::ReadOnly,
            "step 3: it writes $5 (rate), constant of 4 bytes",
        )],
    );
    refused(
        |p| as_kernel(p, 1).access[3] = Access::Read,
        &[(
            Rule::Scratch,
            "step 1: the kernel only reads scratch, $6 (row)",
        )],
    );
}

#[test]
fn guards_come_before_the_first_write_to_a_resident() {
    refused(
        |p| {
            p.buffers[4].home = arena(1, 3);
            p.steps.swap(2, 3);
        },
        &[(
            Rule::Guard,
            "step 3: the guard \"the loss is not finite\" comes after step 2, which writes $1 (w)",
        )],
    );
    refused(
        |p| p.buffers[4].elements = b(),
        &[(
            Rule::Guard,
            "step 2: the condition $4 is bool[b], and not one bool",
        )],
    );
}

#[test]
fn launches_and_products_are_well_formed() {
    refused(
        |p| {
            let launch = as_kernel(p, 3);
            launch.kernel = KernelId::new(3);
            launch.access.pop();
            launch.grain = 0;
        },
        &[
            (Rule::Exists, "step 3: there is no kernel k3"),
            (
                Rule::Launch,
                "step 3: 3 arguments, but 2 of them with an access",
            ),
            (Rule::Launch, "step 3: the grain is 0"),
        ],
    );
    refused(
        |p| {
            let product = as_product(p);
            product.dtype = DType::F64;
            product.dst.row_stride = Dim::from(4);
            product.rhs.batch_strides.push(Dim::from(0));
        },
        &[
            (
                Rule::Product,
                "step 0: lhs $0 is f32, but the product is f64",
            ),
            (
                Rule::Product,
                "step 0: rhs $1 is f32, but the product is f64",
            ),
            (
                Rule::Product,
                "step 0: rhs has 1 batch strides for 0 batch axes",
            ),
            (
                Rule::Product,
                "step 0: dst $3 is f32, but the product is f64",
            ),
            (
                Rule::Product,
                "step 0: dst $3 strides [4, 1] is not row-major without gaps",
            ),
        ],
    );
    refused(
        |p| {
            let epilogue = as_product(p).epilogue.as_mut().unwrap();
            epilogue.total = b() * 3;
            epilogue.grain = 8;
            epilogue.arguments.push(BufferId::new(1));
            epilogue.access.push(Access::Write);
            // The epilogue's write comes before the guard, too.
            p.steps.remove(2);
            p.buffers[4].home = arena(1, 1);
        },
        &[
            (
                Rule::Epilogue,
                "epilogue of step 0: it counts 3*b of b rows",
            ),
            (
                Rule::Epilogue,
                "epilogue of step 0: its grain is 8, but panels begin at any row",
            ),
            (
                Rule::Epilogue,
                "epilogue of step 0: it writes $1 (w), an operand",
            ),
        ],
    );
    refused(
        |p| as_product(p).summation = ProductSummation::Lanes,
        &[(
            Rule::Product,
            "step 0: partial sums are for f32 or f64, summed in itself, with one row or one column, but it is f32[b, 3] summed in f64",
        )],
    );
    refused(
        |p| as_product(p).summation = ProductSummation::Split,
        &[(
            Rule::Product,
            "step 0: products of parts are for f32, summed in itself, but it is f32 summed in f64",
        )],
    );
    refused(
        |p| {
            as_product(p).dst.buffer = BufferId::new(6);
            p.buffers[6].elements = b() * 3;
        },
        &[(
            Rule::Scratch,
            "step 0: $6 (row) is scratch, which only kernels have",
        )],
    );
}

#[test]
fn all_violations_are_listed_with_their_rules() {
    let mut program = linear();
    program.residents[0].role = Role::Input;
    as_kernel(&mut program, 3).grain = 0;
    assert_eq!(
        program.verify().unwrap_err().to_string(),
        "error[resident-role]: resident `w`: its role is input\nerror[launch]: step 3: the grain is 0"
    );
}

/// The last step with a part more, which touches these buffers.
fn with_part(program: &mut Program, accesses: &[(usize, Access)]) {
    if let Step::Kernel(parts) = &mut program.steps[3] {
        parts.push(launch(1, accesses, 5));
    }
}

#[test]
fn the_parts_of_a_step_leave_each_other_alone() {
    let mut program = linear();
    // Both read the rate, and each thread has a row of its own.
    let accesses = [(5, Access::Read), (6, Access::Write), (2, Access::Write)];
    with_part(&mut program, &accesses);
    with_part(&mut program, &[(5, Access::Read), (6, Access::Write)]);
    assert_eq!(program.verify(), Ok(()));
    assert!(program.to_string().ends_with(
        "  3: kernel k2 update(read $1, read $5, write $1) over 12 by 16, sizes [b], work 3
       with k1 loss(read $5, write $6, write $2) over 5, sizes [b], work 3
       with k1 loss(read $5, write $6) over 5, sizes [b], work 3
}
"
    ));
    let message = |part: &str| {
        format!("step 3: part 1 touches {part}, and so does part 0, but one of them writes it")
    };
    refused(
        |p| with_part(p, &[(1, Access::Read)]),
        &[(Rule::Parts, &message("$1 (w)"))],
    );
    refused(
        |p| {
            p.buffers[5].home = Home::Resident;
            p.residents.push(Resident {
                name: "rate".into(),
                role: Role::State(Init::zeros()),
                ty: TensorType::new(DType::F32, ()),
                buffer: BufferId::new(5),
            });
            with_part(p, &[(5, Access::ReadWrite)]);
        },
        &[(Rule::Parts, &message("$5 (rate)"))],
    );
    refused(
        |p| {
            with_part(p, &[(7, Access::Read)]);
            p.steps.push(Step::Kernel(Vec::new()));
        },
        &[
            (Rule::Exists, "part 1 of step 3: there is no buffer $7"),
            (Rule::Parts, "step 4: it calls no kernel"),
        ],
    );
}

#[test]
fn rows_and_columns_are_large_together() {
    let large = ProductSummation::is_large;
    assert!(large(64, 64, 32) && large(48, 96, 100) && large(34, 2000, 32));
    assert!(!large(63, 64, 64) && !large(32, 5000, 64) && !large(64, 64, 31));
    assert!(!large(0, 0, 64) && !large(64, 0, 64));
    assert!(
        large(u64::MAX, u64::MAX, u64::MAX) && large(u64::MAX, 33, 32) && !large(32, u64::MAX, 32)
    );
}
