//! The largest inputs that are read at all, in shapes that make careless code quadratic: done with in two seconds of CPU time, in a build
//! without optimisation, or at least growing evenly with what is in them.

use std::time::Duration;

use super::targets;

/// A name, and a text of about so many bytes.
type Shape = (&'static str, fn(usize) -> String);

const MEBIBYTE: usize = 1 << 20;

/// Time this thread has spent on a CPU: what others do on this host does not count.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_ascii_whitespace().next().unwrap().parse().unwrap())
}

fn takes(what: &str, input: &str, run: fn(&[u8])) {
    let before = on_cpu();
    run(input.as_bytes());
    let spent = on_cpu() - before;
    assert!(spent < Duration::from_secs(2), "{what:?}: {} bytes took {spent:?}", input.len());
}

fn repeated(piece: &str) -> String {
    piece.repeat(MEBIBYTE / piece.len())
}

/// As many numbered pieces as fit into so many bytes.
fn numbered(most: usize, head: &str, piece: impl Fn(usize) -> String, tail: &str) -> String {
    let mut out = head.to_owned();
    for n in 0.. {
        let next = piece(n);
        if out.len() + next.len() + tail.len() > most {
            break;
        }
        out.push_str(&next);
    }
    out + tail
}

/// Four times as much takes about four times as long: sixteen times would be quadratic. For inputs that mean a lot of work, of which each
/// pool is some.
fn grows_evenly(what: &str, input: impl Fn(usize) -> String, run: fn(&[u8])) {
    let [small, large] = [1 << 15, 1 << 17].map(|most| {
        let input = input(most);
        let before = on_cpu();
        run(input.as_bytes());
        on_cpu() - before
    });
    assert!(large < small * 10 + Duration::from_millis(500), "{what:?}: {small:?}, four times as much {large:?}");
}

#[test]
fn configs_full_of_mistakes() {
    for piece in [
        "x = 1 2\n",
        "= =\n",
        "[[[[\n",
        "pool.web.k = 1\n",
        "[pool.a]\nx = 1\n",
        "{\n",
        "\"",
        "a: b\n",
        "é",
        "'''\n",
        "\\",
        "#\n",
        "\u{1}",
    ] {
        takes(piece, &repeated(piece), targets::load);
    }
    for piece in ["[", "{\"a\":", "\"a\",", "{\"pool\":{\"web\":{\"workers\":\"x\"}}},"] {
        takes(piece, &format!("{{{}", repeated(piece)), targets::load);
    }
}

#[test]
fn configs_that_are_long_and_right() {
    let pool = |n| format!("[pool.p{n}]\ncommand = 'x'\nlisten = 'unix:/run/p{n}'\nafter = []\n");
    grows_evenly("pools", |most| numbered(most, "", pool, ""), targets::load);
    let head = "[pool.web]\ncommand = 'x'\n[pool.web.env]\n";
    grows_evenly("variables", |most| numbered(most, head, |n| format!("A{n} = 'value'\n"), ""), targets::load);
    let words = |most| numbered(most, "[pool.web]\ncommand = [", |n| format!("'word{n}', "), "]\n");
    takes("words", &words(MEBIBYTE), targets::load);
    let text = format!("[pool.web]\ncommand = \"{}\"\n", "a ".repeat(MEBIBYTE / 2 - 100));
    takes("a command line", &text, targets::load);
    let text = format!("[pool.web]\ncommand = 'x'\nenv.A = '{}'\n", "{fd${x{".repeat(MEBIBYTE / 8 - 100));
    takes("a template", &text, targets::load);
}

#[test]
fn configs_that_are_long_and_wrong_as_a_whole() {
    let shapes: [Shape; 5] = [
        ("what is not there yet", |n| format!("[pool.p{n}]\ncommand = 'x'\nrecycle.max_lifetime = '1h'\nscale.mode = 'auto'\n")),
        ("one address", |n| format!("[pool.p{n}]\ncommand = 'x'\nlisten = ':80'\n")),
        ("each after the next", |n| format!("[pool.p{n}]\ncommand = 'x'\nafter = ['p{}']\n", n + 1)),
        ("each after the one before", |n| format!("[pool.p{n}]\ncommand = 'x'\nafter = ['p{}']\n", n.saturating_sub(1))),
        ("a template that is missing", |n| format!("[pool.p{n}]\ncommand = 'x {{fd}}'\nuse = ['t']\n")),
    ];
    for (what, pool) in shapes {
        grows_evenly(what, |most| numbered(most, "", pool, ""), targets::load);
    }
    let head = "{\"pool\":{\"web\":{\"command\":\"x\",\"env\":{";
    for value in ["null", "\"\""] {
        let json = |most| numbered(most, head, |n| format!("\"A{n}\":{value},"), "\"Z\":\"\"}}}}");
        grows_evenly("one line of JSON", json, targets::load);
    }
}

#[test]
fn many_variables_and_flags() {
    let shapes: [Shape; 3] = [
        ("variables", |n| format!("POOLMASTER__POOL__WEB__ENV__A{n}=x\n")),
        ("flags", |n| format!("--pool.web.env.A{n}=x\n")),
        ("unknown variables", |n| format!("POOLMASTER__X{n}=x\n")),
    ];
    for (what, line) in shapes {
        grows_evenly(what, |most| numbered(most, "", line, ""), targets::environment);
    }
}

#[test]
fn other_inputs() {
    for piece in ["{\"method\":\"poolmaster.Status\"}\n", "[", "\n", "a", "\"\\u0000"] {
        takes(piece, &repeated(piece), targets::frames);
        takes(piece, &format!("\u{7f}{}", repeated(piece)), targets::frames);
    }
    for piece in ["STATUS=x\n", "=", "\n", "FDNAME=a\n", "A"] {
        takes(piece, &repeated(piece), targets::notify);
    }
    for piece in ["A=b\n", "A='\n", "{", "{fd:", "$", "'", "\\", "A=\"\\\n", "#\n", "{{slot}}"] {
        takes(piece, &repeated(piece), targets::variables);
    }
}
