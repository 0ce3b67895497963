//! Properties of the small pure pieces that the rest is computed with.

use std::time::Duration;

use poolmaster::supervisor::{Backoff, Share, Time, signal_name, signal_number};
use proptest::prelude::*;

prop_compose! {
    fn backoff()(first in 0u64..2_000, base in 1u64..10_000, factor in 1.0f64..4.0, max in 1u64..120_000, jitter in 0.0f64..1.0) -> Backoff {
        let ms = Duration::from_millis;
        // The wait before the first retry is no longer than the second: a config that says otherwise is an error of `check`.
        Backoff { first: ms(first.min(base)), base: ms(base), factor, max: ms(max.max(base)), jitter, reset_after: ms(60_000) }
    }
}

proptest! {
    #[test]
    fn waits_never_shrink_and_never_pass_the_cap(b in backoff(), n in 1u32..200, chance in 0.0f64..1.0) {
        prop_assert!(b.wait(n, chance) <= b.wait(n + 1, chance));
        prop_assert!(b.wait(n, chance) <= b.max);
    }

    #[test]
    fn jitter_spreads_a_wait_by_its_fraction_to_both_sides(b in backoff(), n in 1u32..200, chance in 0.0f64..1.0) {
        let plain = Backoff { jitter: 0.0, ..b }.wait(n, chance).as_secs_f64();
        let wait = b.wait(n, chance).as_secs_f64();
        prop_assert!(wait >= plain * (1.0 - b.jitter) - 1e-6);
        prop_assert!(wait <= plain * (1.0 + b.jitter) + 1e-6);
    }

    #[test]
    fn a_share_is_rounded_up_and_never_nothing_of_something(percent in 1u32..=100, target in 1u32..100_000) {
        let n = Share::Percent(percent).of(target);
        prop_assert!(n >= 1 && n <= target);
        prop_assert!(u64::from(n) * 100 >= u64::from(percent) * u64::from(target));
        prop_assert!(u64::from(n - 1) * 100 < u64::from(percent) * u64::from(target));
    }

    #[test]
    fn time_saturates_and_never_runs_backwards(t in any::<u64>(), d in any::<u64>()) {
        let (t, d) = (Time(t), Duration::from_nanos(d));
        prop_assert!(t + d >= t);
        prop_assert!((t + d).since(t) <= d);
        prop_assert_eq!(t.since(t + d), Duration::ZERO);
    }

    #[test]
    fn no_text_for_a_signal_panics_and_numbers_read_back(text in "\\PC{0,12}", n in 1i32..=64) {
        if let Some(read) = signal_number(&text) {
            prop_assert!((1..=64).contains(&read));
        }
        if signal_number(&n.to_string()).is_some() {
            prop_assert_eq!(signal_number(&signal_name(n)), Some(n));
        }
    }
}
