//! Owns chance: one seeded stream per purpose, so that what one worker does never depends on what others drew before.

use std::time::Duration;

use poolmaster::supervisor::WorkerId;

/// SplitMix64: small, seedable from any number, good enough to choose faults.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// A stream that belongs to one purpose of one run.
    pub(crate) fn keyed(seed: u64, salt: u64) -> Rng {
        let mut rng = Rng(seed ^ salt.wrapping_mul(0xd6e8_feb8_6659_fd93));
        rng.next();
        rng
    }

    /// A stream that belongs to one process: the same whoever else is running.
    pub(crate) fn of_worker(seed: u64, w: WorkerId) -> Rng {
        let key = (u64::from(w.pool.0) << 48) ^ (u64::from(w.slot) << 32) ^ u64::from(w.generation);
        Rng::keyed(seed, key.wrapping_add(0x9e37_79b9))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 .. n, without n. `n` is never 0 here.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(crate) fn small(&mut self, n: u32) -> u32 {
        (self.next() % u64::from(n.max(1))) as u32
    }

    /// True so many times out of a thousand.
    pub(crate) fn permille(&mut self, n: u64) -> bool {
        self.below(1000) < n
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }

    /// A duration of `lo ..= hi` milliseconds and some odd nanoseconds, so that two independent things never coincide by
    /// accident (coincidences are made on purpose, by coalescing).
    pub(crate) fn ms(&mut self, lo: u64, hi: u64) -> Duration {
        Duration::from_millis(lo + self.below(hi - lo + 1)) + Duration::from_nanos(self.below(500_000))
    }
}
