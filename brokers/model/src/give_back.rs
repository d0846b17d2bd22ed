//! Memory that a burst took and nobody needs any longer goes back, so that what is idle is small.
//!
//! What goes up and down costs little: memory goes back once an eighth of it is enough, and twice what is needed is kept.

use std::collections::{BinaryHeap, VecDeque};

/// Entries for which memory is kept whatever happens.
const KEPT: usize = 32;

/// How much to keep of a container, if some of it is to go back.
fn keep(len: usize, capacity: usize) -> Option<usize> {
    (capacity > KEPT && len < capacity / 8).then(|| (2 * len).max(KEPT))
}

/// After entries were taken out of a queue.
pub(crate) fn from_deque<T>(of: &mut VecDeque<T>) {
    if let Some(keep) = keep(of.len(), of.capacity()) {
        of.shrink_to(keep);
    }
}

/// After entries were taken out of a heap.
pub(crate) fn from_heap<T>(of: &mut BinaryHeap<T>) {
    if let Some(keep) = keep(of.len(), of.capacity()) {
        of.shrink_to(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_back_in_few_steps_and_not_while_it_is_used() {
        let mut deque: VecDeque<u64> = (0..100_000).collect();
        let mut steps = 0;
        while deque.pop_front().is_some() {
            let before = deque.capacity();
            from_deque(&mut deque);
            steps += usize::from(deque.capacity() < before);
            assert!(deque.capacity() <= KEPT.max(8 * deque.len() + 8), "{} for {}", deque.capacity(), deque.len());
        }
        assert!((3..10).contains(&steps), "{steps}");
        for n in 0..100_000 {
            deque.push_back(n);
            deque.pop_front();
            let before = deque.capacity();
            from_deque(&mut deque);
            assert_eq!(deque.capacity(), before, "a few entries that come and go");
        }
    }
}
