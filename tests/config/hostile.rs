//! Texts that nobody means: nothing panics, nothing takes long, nothing floods the terminal.

use proptest::prelude::*;

use poolmaster::config::{Sources, explain};

use super::{facts, sources};

const FULL: &str = include_str!("full.toml");

fn survives(sources: &Sources) {
    match explain(sources) {
        Ok(loaded) => {
            let _ = (loaded.show_toml(), loaded.show_json(), loaded.origin("pool.web"), loaded.origin("master"));
        }
        Err(diags) => {
            let said = diags.to_string();
            assert!(diags.failed() && !said.is_empty());
            assert!(diags.errors().all(|d| d.json().is_object()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_sheet_with_lines_missing_twice_or_changed(
        picks in prop::collection::vec((0usize..400, 0usize..120, "[\\PC]?"), 0..60),
    ) {
        let mut lines: Vec<String> = FULL.lines().map(str::to_owned).collect();
        for (line, column, with) in picks {
            let n = lines.len();
            match with.as_str() {
                "" => { lines.swap(line % n, column % n); }
                with => {
                    let changed: String = lines[line % n].chars().enumerate().map(|(i, c)| if i == column { with.to_owned() } else { c.to_string() }).collect();
                    lines[line % n] = changed;
                }
            }
        }
        survives(&sources(&lines.join("\n"), &[], &[]));
    }

    #[test]
    fn every_key_with_a_value_of_any_type(
        key in 0usize..400,
        value in prop_oneof![
            Just("-1".to_owned()), Just("9223372036854775807".to_owned()), Just("nan".to_owned()), Just("[]".to_owned()),
            Just("{}".to_owned()), Just("[[1]]".to_owned()), Just("true".to_owned()), Just("1e300".to_owned()), Just("\"\"".to_owned()),
            Just("\"18446744073709551615s\"".to_owned()), Just("\"${X}\"".to_owned()), Just("\"\\u0000\"".to_owned()), "[0-9a-z:%/*.\\-]{0,12}".prop_map(|s| format!("\"{s}\"")),
        ],
    ) {
        let keys: Vec<_> = poolmaster::config::keys::all().collect();
        let path = keys[key % keys.len()].path.replace("pool.*", "pool.web").replace('*', "name");
        survives(&sources(&format!("{path} = {value}\n"), &[], &[]));
        let bare = value.trim_matches('"');
        survives(&sources("[pool.web]\ncommand = 'x'\n", &[("X", "[1")], &[&format!("{path}={bare}")]));
    }

    #[test]
    fn any_text_as_a_variable_or_flag(name in "[A-Z_a-z0-9]{0,30}", value in "\\PC{0,20}", key in "[a-z.\"]{1,20}") {
        let variable = format!("POOLMASTER__{name}");
        let mut s = sources("[pool.web]\ncommand = 'x'\n", &[(&variable, &value)], &[]);
        s.flags.extend(poolmaster::config::Flag::set(&format!("{key}={value}")));
        survives(&s);
    }
}

/// The largest file that is read, full of mistakes: a bounded report in bounded time.
#[test]
fn a_mebibyte_of_mistakes_is_reported_briefly() {
    for line in
        ["x = 1 2\n", "= =\n", "[[[[\n", "pool.web.k = 1\n", "[pool.a]\nx = 1\n", "{\n", "\"", "a.b.c.d.e.f = [1, 2, 3]\n"]
    {
        let text = line.repeat((1 << 20) / line.len());
        let said = explain(&sources(&text, &[], &[])).expect_err("mistakes").to_string();
        assert!(said.len() < 200_000, "{line:?}: {} bytes", said.len());
    }
    let deep = format!("pool.web.command = {}", "[".repeat(1 << 19));
    assert!(explain(&sources(&deep, &[], &[])).is_err());
    let mut json = Sources { text: Some("[".repeat(1 << 19)), facts: facts(), ..Sources::default() };
    json.path = Some("x.json".into());
    assert!(explain(&json).is_err());
}

#[test]
fn a_thousand_pools_are_no_trouble() {
    let text: String = (0..1_000).map(|n| format!("[pool.p{n}]\ncommand = 'x'\nlisten = 'unix:/run/p{n}'\n")).collect();
    let loaded = explain(&sources(&text, &[], &[])).unwrap_or_else(|diags| panic!("{diags}"));
    assert_eq!(loaded.config.pools.len(), 1_000);
}
