//! Where bodies, conditions, slices and live ranges may lie.

use super::*;

#[test]
fn bodies_lie_in_the_program_and_nest() {
    let rest = |p: &mut Program| p.steps[1] = repeat(t(), 9, false);
    refused(
        sums,
        |p| {
            rest(p);
            p.steps.pop();
            p.outputs.pop();
            p.buffers.pop();
            p.buffers[2].home = arena(0, 3);
        },
        &[(
            Rule::Body,
            "step 1: its body ends at step 11, and the program at step 4",
        )],
    );
    refused(
        parallel,
        |p| p.steps[0] = repeat(t(), 0, true),
        &[
            (Rule::Body, "step 0: a body of it has no step"),
            (
                Rule::Parallel,
                "$4 (row): it is local and lives 1..=2, not within the body of one parallel loop",
            ),
            (
                Rule::Slice,
                "step 1: it uses $2 (x[i]), a slice that only steps in the loop at step 0 have",
            ),
            (
                Rule::Slice,
                "step 2: it uses $3 (y[i]), a slice that only steps in the loop at step 0 have",
            ),
        ],
    );
    // A loop in the first side of a branch would reach into the second.
    refused(
        counter,
        |p| {
            p.steps[6] = repeat(2, 1, false);
            p.buffers[6].home = arena(5, 5);
        },
        &[(
            Rule::Body,
            "step 6: its body ends at step 8, and the body of step 4 at step 7",
        )],
    );
    let mut deep = counter();
    deep.steps = (0..100_000)
        .map(|at| repeat(1, 100_000 - at, false))
        .chain([kernel(1, &[(2, WRITE), (3, WRITE)])])
        .collect();
    deep.buffers.truncate(5);
    let errors = deep.verify().unwrap_err();
    let first = errors.iter().next().unwrap();
    assert_eq!(first.rule, Rule::Body);
    assert_eq!(first.message, "it lies within 64 others, which is the most");
}

#[test]
fn conditions_are_one_bool_and_set_by_the_test() {
    refused(
        counter,
        |p| p.buffers[5].elements = Dim::from(2),
        &[(
            Rule::Condition,
            "step 1: the condition $5 is bool[2], and not one bool",
        )],
    );
    refused(
        counter,
        |p| {
            let Step::Branch(branch) = &mut p.steps[4] else {
                panic!("step 4 is a branch")
            };
            branch.condition = id(0);
        },
        &[(
            Rule::Condition,
            "step 4: the condition $0 is i64[1], and not one bool",
        )],
    );
    refused(
        counter,
        |p| p.steps.swap(2, 3),
        &[(
            Rule::Written,
            "step 1: its test does not write the condition $5 (more)",
        )],
    );
}

#[test]
fn slices_are_entries_of_a_buffer_in_a_loop() {
    refused(
        sums,
        |p| slice_of(p, 4).step = 2,
        &[(
            Rule::Slice,
            "$4 (x[i]): it moves by 2 entries, and not by 1 or -1",
        )],
    );
    refused(
        sums,
        |p| p.buffers[4].elements = Dim::from(5),
        &[(
            Rule::Slice,
            "$4 (x[i]): t entries of f32[5] do not make up $0 (x), f32[4*t]",
        )],
    );
    refused(
        sums,
        |p| slice_of(p, 4).at = 0,
        &[
            (
                Rule::Slice,
                "$4 (x[i]): step 0 is to move it, which is no loop",
            ),
            (
                Rule::Slice,
                "step 2: it uses $4 (x[i]), a slice that only steps in the loop at step 0 have",
            ),
        ],
    );
    refused(
        sums,
        |p| {
            let twin = slice(6, 1, 1, 0);
            p.buffers.push(buffer("twin", DType::F32, 4, twin));
        },
        &[(
            Rule::Slice,
            "$10 (twin): $6 (c[i]) is moved by step 1, which is no loop around step 1",
        )],
    );
    refused(
        parallel,
        |p| {
            p.buffers.push(buffer("fine", DType::F32, 4, Home::Scratch));
            let part = slice(5, 0, 1, 0);
            p.buffers.push(buffer("part", DType::F32, 4, part));
        },
        &[(
            Rule::Slice,
            "$6 (part): it is a slice of scratch, $5 (fine)",
        )],
    );
    refused(
        parallel,
        |p| {
            let part = slice(4, 0, 1, 0);
            p.buffers.push(buffer("part", DType::F32, 4, part));
        },
        &[(
            Rule::LiveRange,
            "$5 (part): $4 (row) lives 1..=2, and not throughout the loop at steps 0 to 2",
        )],
    );
    refused(
        sums,
        |p| slice_of(p, 4).of = id(77),
        &[(Rule::Exists, "$4 (x[i]): there is no buffer $77")],
    );
    refused(
        sums,
        |p| p.steps[3] = kernel(1, &[(8, READ), (7, WRITE), (5, WRITE), (4, WRITE)]),
        &[(
            Rule::ReadOnly,
            "step 3: it writes $4 (x[i]), a slice of $0 (x), input",
        )],
    );
}

#[test]
fn live_ranges_lie_within_a_body_or_around_its_loop() {
    refused(
        sums,
        |p| p.buffers[2].home = arena(0, 2),
        &[
            (
                Rule::LiveRange,
                "$6 (c[i]): $2 (carry) lives 0..=2, and not throughout the loop at steps 1 to 3",
            ),
            (
                Rule::LiveRange,
                "$7 (c[i + 1]): $2 (carry) lives 0..=2, and not throughout the loop at steps 1 to 3",
            ),
            (
                Rule::LiveRange,
                "$2 (carry): it lives 0..=2, neither within the body of the loop at steps 1 to 3 nor throughout",
            ),
            (
                Rule::LiveRange,
                "step 4: it uses $2 (carry), which lives 0..=2",
            ),
        ],
    );
    refused(
        sums,
        |p| p.buffers[8].home = arena(2, 4),
        &[(
            Rule::LiveRange,
            "$8 (sum): it lives 2..=4, neither within the body of the loop at steps 1 to 3 nor throughout",
        )],
    );
    refused(
        counter,
        |p| p.buffers[5].home = arena(2, 3),
        &[(
            Rule::LiveRange,
            "step 1: it uses $5 (more), which lives 2..=3",
        )],
    );
}
