//! Every interleaving of a few short programs: each party's commands keep their order, and the parties mix in every way there is.
//!
//! What two interleavings begin with is done once. Leaves out what is right: each step is judged by the trial that makes it.

/// Makes every interleaving of `programs` on copies of `state` and returns how many there were. `step` does one command; `end` is
/// handed the state after each whole interleaving, with its number.
pub(crate) fn every<S: Clone, C>(
    state: &S,
    programs: &[&[C]],
    step: &impl Fn(&mut S, &C),
    end: &mut impl FnMut(S, u64),
) -> u64 {
    explore(state.clone(), programs, step, end, 0)
}

fn explore<S: Clone, C>(
    state: S,
    programs: &[&[C]],
    step: &impl Fn(&mut S, &C),
    end: &mut impl FnMut(S, u64),
    before: u64,
) -> u64 {
    if programs.iter().all(|program| program.is_empty()) {
        end(state, before);
        return 1;
    }
    let mut count = 0;
    for (number, program) in programs.iter().enumerate() {
        let Some((command, rest)) = program.split_first() else { continue };
        let mut next = state.clone();
        step(&mut next, command);
        let mut left = programs.to_vec();
        left[number] = rest;
        count += explore(next, &left, step, end, before + count);
    }
    count
}

/// How many interleavings programs of these lengths have: the multinomial coefficient.
pub(crate) fn number(lengths: &[u64]) -> u64 {
    let (mut total, mut ways) = (0, 1);
    for &length in lengths {
        for chosen in 1..=length {
            total += 1;
            ways = ways * total / chosen;
        }
    }
    ways
}

#[test]
fn each_interleaving_is_made_once_and_keeps_the_order_of_each_program() {
    let programs: [&[u32]; 3] = [&[10, 11], &[20, 21, 22], &[30]];
    let mut seen = std::collections::BTreeSet::new();
    let count =
        every(&Vec::new(), &programs, &|made: &mut Vec<u32>, &command| made.push(command), &mut |made, number| {
            assert_eq!(number, seen.len() as u64);
            for program in programs {
                let own: Vec<u32> = made.iter().copied().filter(|command| command / 10 == program[0] / 10).collect();
                assert_eq!(own, program);
            }
            assert!(seen.insert(made), "twice");
        });
    assert_eq!((count, number(&[2, 3, 1])), (60, 60));
    assert_eq!((seen.len(), number(&[]), number(&[3])), (60, 1, 1));
}
