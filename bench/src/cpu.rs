//! CPU time of the calling thread: what neighbours take does not count.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of CPU that this thread has used.
pub fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// What `work` costs in nanoseconds of this thread's CPU.
pub fn cost_ns(work: impl FnOnce()) -> u64 {
    let begin = thread_ns();
    work();
    thread_ns() - begin
}
