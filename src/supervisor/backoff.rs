//! Owns how long to wait after the n-th failure in a row.

use std::time::Duration;

use super::Backoff;

impl Backoff {
    /// The wait after the `n`-th failure in a row (from 1); `chance` in `[0, 1)` spreads it by `jitter` to both sides.
    pub fn wait(&self, n: u32, chance: f64) -> Duration {
        let plain = match n {
            0 | 1 => self.first,
            // Beyond 2^64 the cap has long been reached; powi saturates to infinity, which the cap absorbs.
            n => Duration::try_from_secs_f64(self.base.as_secs_f64() * self.factor.powi((n - 2).min(1024) as i32))
                .unwrap_or(Duration::MAX)
                .min(self.max),
        };
        let spread = 1.0 + self.jitter * (2.0 * chance - 1.0);
        Duration::try_from_secs_f64(plain.as_secs_f64() * spread).unwrap_or(self.max).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: Backoff = Backoff {
        first: Duration::ZERO,
        base: Duration::from_millis(500),
        factor: 2.0,
        max: Duration::from_secs(30),
        jitter: 0.2,
        reset_after: Duration::from_secs(60),
    };

    #[test]
    fn the_default_series_is_0_half_1_2_up_to_30() {
        let secs: Vec<f64> = (1..=10).map(|n| B.wait(n, 0.5).as_secs_f64()).collect();
        assert_eq!(secs, [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
    }

    #[test]
    fn jitter_stays_within_its_fraction_and_the_cap() {
        for n in 2..5 {
            let mid = B.wait(n, 0.5).as_secs_f64();
            assert!((B.wait(n, 0.0).as_secs_f64() - mid * 0.8).abs() < 1e-9);
            assert!(B.wait(n, 0.999_999).as_secs_f64() <= mid * 1.2);
        }
        assert_eq!(B.wait(u32::MAX, 0.99), Duration::from_secs(30));
    }
}
