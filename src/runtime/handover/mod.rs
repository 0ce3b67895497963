//! Owns the state of a master that goes on as another program: written down, read back, and handed over.

mod read;
mod record;
mod write;

pub(super) use read::{open, read};
pub(super) use record::{
    CaptureState, ClientState, FORMAT, Head, MasterState, OrderState, ProcessState, Record, RunState, SlotsState, SocketState,
    StoredState,
};
pub(super) use write::Written;

#[cfg(test)]
mod tests {
    use super::*;

    /// A state as the first version that hands one over writes it: four workers in three pools, one with another user, Einhorn's protocol, a roll
    /// behind them. What it says is what it says in any later version.
    const FIRST: &str = include_str!("../../../tests/handover/format-1.json");

    #[test]
    fn a_state_of_each_format_there_was_is_read_and_says_the_same() {
        let text = FIRST.trim_end();
        let record = read(text.as_bytes()).unwrap();
        assert_eq!((record.head.format, record.head.pid, record.processes.len()), (1, 1182, 4));
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        // What a later version adds is no reason to refuse it.
        let more = text.replacen("{\"format\":1,", "{\"format\":1,\"of_tomorrow\":[],", 1);
        assert!(read(more.as_bytes()).is_ok());
    }

    #[test]
    fn what_is_no_state_or_one_of_another_format_is_refused_by_name() {
        for (text, why) in [
            (FIRST.replacen("\"format\":1", "\"format\":2", 1), "the state has format 2 (written by poolmaster 0.1.0)"),
            (FIRST.replacen("\"core\":", "\"kore\":", 1), "the state cannot be read: missing field `core`"),
            (FIRST.split_at(FIRST.len() / 2).0.to_owned(), "the state is none of a master"),
            (String::new(), "the state is none of a master"),
            ("{}".to_owned(), "the state is none of a master: missing field `format`"),
        ] {
            let told = read(text.as_bytes()).unwrap_err();
            assert!(told.starts_with(why), "{told}");
        }
    }

    fn leaves(value: &serde_json::Value) -> u64 {
        match value {
            serde_json::Value::Array(items) => items.iter().map(leaves).sum::<u64>() + 1,
            serde_json::Value::Object(fields) => fields.values().map(leaves).sum(),
            _ => 1,
        }
    }

    /// Another state of the same shape: numbers, words and answers are others, what may be absent or empty is, and lists have more in them.
    fn varied(value: &mut serde_json::Value, seldom: u64, draw: &mut impl FnMut(u64) -> u64) {
        use serde_json::Value;
        match value {
            Value::Number(number) if number.is_u64() && draw(seldom) == 0 => {
                // Small ones fit each width, and name what is there oftener than others.
                *value = match draw(3) {
                    0 => draw(4).into(),
                    1 => draw(120).into(),
                    _ => draw(1 << 31).into(),
                };
            }
            Value::String(text) if draw(2 * seldom) == 0 => {
                text.push_str(["", "ü", "\u{202e}", "\"", "\n"][usize::try_from(draw(5)).unwrap()])
            }
            Value::Bool(answer) if draw(seldom) == 0 => *answer = !*answer,
            Value::Array(items) => {
                items.iter_mut().for_each(|item| varied(item, seldom, draw));
                match draw(2 * seldom) {
                    0 => items.clear(),
                    1 => items.extend(items.last().cloned()),
                    _ => {}
                }
            }
            Value::Object(fields) => fields.values_mut().for_each(|field| varied(field, seldom, draw)),
            _ if draw(4 * seldom) == 0 => *value = Value::Null,
            _ => {}
        }
    }

    /// Of the whole state, the runtime's part as well as the core's. Those that are none any more are refused.
    #[test]
    fn what_is_written_read_and_written_is_the_same() {
        let mut states = std::collections::BTreeSet::new();
        let mut parts_of = std::collections::BTreeMap::new();
        for seed in 1..600u64 {
            let mut left = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut draw = |below: u64| {
                left ^= left << 13;
                left ^= left >> 7;
                left ^= left << 17;
                left % below
            };
            let mut value: serde_json::Value = serde_json::from_str(FIRST).unwrap();
            // One part at a time, so that much of what comes out is a state.
            let parts: Vec<String> = value.as_object().unwrap().keys().filter(|key| *key != "format").cloned().collect();
            let part = &parts[usize::try_from(draw(parts.len() as u64)).unwrap()];
            // A few changes in each: what is large has many that a state cannot have.
            let seldom = (leaves(&value[part]) / (1 + draw(4))).max(2);
            varied(&mut value[part], seldom, &mut draw);
            let Ok(record) = read(value.to_string().as_bytes()) else { continue };
            let once = serde_json::to_string(&record).unwrap();
            let again = serde_json::to_string(&read(once.as_bytes()).unwrap()).unwrap();
            assert_eq!(once, again, "seed {seed}, in {part}");
            *parts_of.entry(part.clone()).or_insert(0) += 1;
            states.insert(once);
        }
        assert!(states.len() > 150 && parts_of.len() > 8, "only {} states came of it, in {parts_of:?}", states.len());
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_refused_and_does_no_harm(at in 0usize..40_000, byte: u8) {
            let mut bytes = FIRST.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(record) = read(&bytes) {
                // Changed, but a state all the same: no descriptor of it is there.
                let mut taken = crate::os::handover::Taken::default();
                proptest::prop_assert!(open(record, 0, &mut taken).is_err());
            }
        }
    }
}
