//! A list of system calls as a filter that the kernel walks quickly: a search tree of ranges.
//!
//! A chain of comparisons, one for each call, costs the kernel most of a millisecond when it is
//! installed, because it tries every call on it. The tree is a tenth as long, and any call
//! passes it in a few steps.

use seccompiler::{BpfProgram, sock_filter};

/// Where a call's number and processor are in what a filter sees: `struct seccomp_data`.
const NUMBER: u32 = 0;
const PROCESSOR: u32 = 4;
/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ`, `BPF_JMP | BPF_JGE` and `BPF_RET`.
const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// `SECCOMP_RET_KILL_PROCESS`, `SECCOMP_RET_ALLOW` and `SECCOMP_RET_ERRNO`.
const KILL: u32 = 0x8000_0000;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

/// A filter that allows the calls of a list and answers `errno` to all others. Calls by another
/// processor's numbers end the process. `None` when the list has too many gaps for one tree.
pub(super) fn filter(calls: &[libc::c_long], processor: u32, errno: u32) -> Option<BpfProgram> {
    let mut numbers: Vec<u32> = calls.iter().flat_map(|call| u32::try_from(*call)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    // Where the answer changes: the first of each range, and the first behind it.
    let mut bounds: Vec<u32> = Vec::new();
    for number in numbers {
        if bounds.last() == Some(&number) {
            bounds.pop();
        } else {
            bounds.push(number);
        }
        bounds.push(number + 1);
    }
    let mut program = vec![
        step(LOAD, PROCESSOR, 0, 0),
        step(EQUAL, processor, 1, 0),
        step(RETURN, KILL, 0, 0),
        step(LOAD, NUMBER, 0, 0),
    ];
    program.extend(tree(&bounds, false, errno)?);
    Some(program)
}

/// The search among `bounds`, below the first of which a call is `allowed` or not.
fn tree(bounds: &[u32], allowed: bool, errno: u32) -> Option<BpfProgram> {
    let middle = bounds.len() / 2;
    let Some(bound) = bounds.get(middle) else {
        let answer = if allowed { ALLOW } else { ERRNO | errno };
        return Some(vec![step(RETURN, answer, 0, 0)]);
    };
    let below = tree(&bounds[..middle], allowed, errno)?;
    let crossed = middle + 1;
    let above = tree(&bounds[crossed..], allowed ^ (crossed % 2 == 1), errno)?;
    let mut program = vec![step(AT_LEAST, *bound, u8::try_from(below.len()).ok()?, 0)];
    program.extend(below);
    program.extend(above);
    Some(program)
}

fn step(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers, walked as the kernel would.
    fn answer(program: &[sock_filter], number: u32, processor: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            match step.code {
                LOAD if step.k == NUMBER => value = number,
                LOAD => value = processor,
                EQUAL => at += usize::from(if value == step.k { step.jt } else { step.jf }),
                AT_LEAST => at += usize::from(if value >= step.k { step.jt } else { step.jf }),
                _ => return step.k,
            }
        }
    }

    #[test]
    fn the_tree_allows_its_list_and_nothing_else() {
        let lists: [&[libc::c_long]; 5] =
            [&[], &[0], &[5], &[0, 1, 2, 9, 7, 8, 300, 300], &super::super::allowed()];
        for list in lists {
            let program = filter(list, 7, 38).unwrap();
            for number in (0..1000).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
                let wanted =
                    if list.contains(&libc::c_long::from(number)) { ALLOW } else { ERRNO | 38 };
                assert_eq!(answer(&program, number, 7), wanted, "{number} of {list:?}");
                assert_eq!(answer(&program, number, 8), KILL);
            }
        }
        let long = filter(&super::super::allowed(), 7, 38).unwrap().len();
        assert!(long < 300, "{long} steps");
    }
}
