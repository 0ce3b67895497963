//! Owns the only randomness of the core: a pure function of the injected seed and of what it is for, so that one pool's noise
//! never shifts another pool's jitter.

use super::{PoolId, WorkerId};

/// A number in `[0, 1)` for the `n`-th draw on behalf of a slot (splitmix64's finaliser over the mixed inputs).
pub(super) fn draw(seed: u64, pool: PoolId, slot: u32, n: u32) -> f64 {
    let mut x = seed ^ (u64::from(pool.0) << 40) ^ (u64::from(slot) << 16) ^ u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    (x >> 11) as f64 / (1u64 << 53) as f64
}

/// The draw for a wait that follows the death of `worker`.
pub(super) fn draw_for(seed: u64, worker: WorkerId) -> f64 {
    draw(seed, worker.pool, worker.slot, worker.generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_spread_over_the_unit_interval() {
        let draws: Vec<f64> = (0..1000).map(|n| draw(1, PoolId(3), 2, n)).collect();
        assert!(draws.iter().all(|d| (0.0..1.0).contains(d)));
        let mean = draws.iter().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
        assert_ne!(draw(1, PoolId(0), 0, 1), draw(2, PoolId(0), 0, 1));
    }
}
