//! Reads numbers, texts and columns from a frame's body, never past its end.
//!
//! Leaves out what they mean.

/// What is left of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// What `take` takes from the front.
    pub(super) fn with<T>(&mut self, take: impl FnOnce(&mut &'a [u8]) -> Option<T>) -> Option<T> {
        take(&mut self.0)
    }

    /// A number of things that take `each` bytes at least: no more than the rest can hold.
    pub(super) fn count(&mut self, each: usize) -> Option<usize> {
        let count = self.u32()? as usize;
        (count <= self.0.len() / each).then_some(count)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let len = self.count(1)?;
        std::str::from_utf8(self.take(len)?).ok().map(str::to_owned)
    }

    /// A column of `count` numbers of `N` bytes.
    pub(super) fn column<const N: usize>(&mut self, count: usize) -> Option<&'a [[u8; N]]> {
        let bytes = self.take(count.checked_mul(N)?)?;
        Some(bytes.as_chunks::<N>().0)
    }

    /// All that is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
