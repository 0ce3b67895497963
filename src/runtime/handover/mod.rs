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
