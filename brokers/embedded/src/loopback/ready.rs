//! Which connections can be read or written: one epoll over all of them, so that those on which nothing happens cost no system call.
//!
//! It is level-triggered: what is not read now shows again. Leaves out waiting, which the server does on everything that it has; the
//! epoll's own descriptor is one of those.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use brokerlab_model::WaitOn;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// As many are told of at once; the others are told of next time.
const AT_ONCE: usize = 256;

/// What one connection is watched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Watch {
    /// Nothing, not even its end.
    #[default]
    Nothing,
    /// Something to read.
    Read,
    /// The same, or room to write.
    ReadWrite,
}

impl From<Option<WaitOn<'_>>> for Watch {
    fn from(wait_on: Option<WaitOn<'_>>) -> Self {
        match wait_on {
            None | Some(WaitOn::Nothing) => Self::Nothing,
            Some(WaitOn::Read(_)) => Self::Read,
            Some(WaitOn::ReadWrite(_)) => Self::ReadWrite,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ready {
    epoll: OwnedFd,
}

impl Ready {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Watches a connection's descriptor for something else than before. One that is closed is watched no more.
    pub(super) fn watch(&self, fd: BorrowedFd<'_>, number: u32, before: Watch, now: Watch) -> io::Result<()> {
        let data = EventData::new_u64(u64::from(number));
        let flags = match now {
            Watch::Nothing => return Ok(epoll::delete(&self.epoll, fd)?),
            Watch::Read => EventFlags::IN,
            Watch::ReadWrite => EventFlags::IN | EventFlags::OUT,
        };
        if before == Watch::Nothing {
            epoll::add(&self.epoll, fd, data, flags)?;
        } else {
            epoll::modify(&self.epoll, fd, data, flags)?;
        }
        Ok(())
    }

    /// The numbers of the connections that are ready now; waits for none.
    pub(super) fn take(&self, numbers: &mut Vec<u32>) {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut room = [MaybeUninit::<Event>::uninit(); AT_ONCE];
        // An interrupted look finds them the next time.
        if let Ok((events, _)) = epoll::wait(&self.epoll, &mut room, Some(&now)) {
            numbers.extend(events.iter().map(|event| {
                // The fields of a packed record are copied before they are asked anything.
                let data = event.data;
                data.u64() as u32
            }));
        }
    }
}

impl AsFd for Ready {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
