//! A bell that wakes a sleeping host: an eventfd that is written only for who is about to sleep, and once until it was drained.
//!
//! A write and a read cost more than most steps, and a loop that never sleeps needs neither. So whoever rings leaves a note, and writes only
//! if the loop has asked what to sleep on since it was last awake; who asks finds the note. Ringing and draining happen under the engine's
//! lock, so that no write comes after its drain. Leaves out who is to be woken.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::EventfdFlags;

use crate::store::StoreError;

/// See the module.
#[derive(Debug)]
pub(crate) struct Bell {
    fd: OwnedFd,
    /// The loop may sleep.
    armed: AtomicBool,
    /// It was rung while the loop was awake.
    noted: AtomicBool,
    /// The descriptor is readable.
    rung: AtomicBool,
}

impl Bell {
    pub(crate) fn new() -> Result<Self, StoreError> {
        let fd = rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|errno| StoreError::Eventfd(Arc::new(io::Error::from(errno))))?;
        let no = || AtomicBool::new(false);
        Ok(Self { fd, armed: no(), noted: no(), rung: no() })
    }

    /// Wakes the loop, now or as soon as it is about to sleep.
    pub(crate) fn ring(&self) {
        self.noted.store(true, Ordering::SeqCst);
        // Either the sleeper has armed it before this, or it finds the note.
        if self.armed.load(Ordering::SeqCst) {
            self.write();
        }
    }

    /// What the loop may sleep on until it polls.
    pub(crate) fn before_sleep(&self) -> BorrowedFd<'_> {
        self.armed.store(true, Ordering::SeqCst);
        self.write();
        self.fd.as_fd()
    }

    /// The loop polls.
    #[inline]
    pub(crate) fn awake(&self) {
        if self.armed.load(Ordering::Relaxed) {
            self.armed.store(false, Ordering::Relaxed);
        }
    }

    /// Whether it was rung since it was drained; may be looked at without the lock.
    pub(crate) fn is_rung(&self) -> bool {
        self.noted.load(Ordering::Acquire) || self.rung.load(Ordering::Acquire)
    }

    /// Whatever it was rung for is done.
    pub(crate) fn drain(&self) {
        // Whoever reads that it was rung sees what it was rung for.
        self.noted.swap(false, Ordering::SeqCst);
        if self.rung.swap(false, Ordering::AcqRel) {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.fd, &mut count);
        }
    }

    fn write(&self) {
        if self.noted.swap(false, Ordering::SeqCst) && !self.rung.swap(true, Ordering::AcqRel) {
            // A nonblocking eventfd refuses a write only when it is about to overflow, and then it is readable.
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    /// Whether the descriptor becomes readable within so many seconds.
    fn is_woken(fd: BorrowedFd<'_>, seconds: i64) -> bool {
        let at_most = Timespec { tv_sec: seconds, tv_nsec: 0 };
        poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&at_most)).expect("poll") == 1
    }

    #[test]
    fn nothing_is_written_for_who_is_awake_and_who_goes_to_sleep_finds_the_note() {
        let bell = Bell::new().expect("a descriptor");
        bell.ring();
        assert!(bell.is_rung() && !is_woken(bell.fd.as_fd(), 0));
        assert!(is_woken(bell.before_sleep(), 0));
        bell.drain();
        assert!(!bell.is_rung() && !is_woken(bell.before_sleep(), 0));
        bell.ring();
        assert!(is_woken(bell.fd.as_fd(), 0), "it sleeps");
        bell.awake();
        bell.drain();
        bell.ring();
        bell.drain();
        assert!(!is_woken(bell.before_sleep(), 0), "what was collected wakes nobody");
    }

    #[test]
    fn nobody_sleeps_through_a_ring() {
        let (bell, work) = (Bell::new().expect("a descriptor"), AtomicU64::new(0));
        let lock = std::sync::Mutex::new(());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for done in 0..20_000 {
                    // One piece of work at a time: each has to wake the other, or be seen by it.
                    while work.load(Ordering::Acquire) > 0 {
                        std::hint::spin_loop();
                    }
                    let _engine = lock.lock().expect("nobody panics");
                    work.store(done + 1, Ordering::Release);
                    bell.ring();
                }
            });
            for done in 0..20_000 {
                while work.load(Ordering::Acquire) == 0 {
                    assert!(is_woken(bell.before_sleep(), 60), "asleep, though there was work {done}");
                    bell.awake();
                }
                let _engine = lock.lock().expect("nobody panics");
                bell.drain();
                assert_eq!(work.swap(0, Ordering::AcqRel), done + 1);
            }
        });
    }
}
