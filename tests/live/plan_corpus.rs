//! What `plan` says is what the reload then does: which workers are replaced, in which order, with how many processes at one time.

use std::collections::BTreeMap;

use serde_json::Value;

use super::support::*;

/// One pool of the corpus, by the lines that an edit changes.
#[derive(Clone)]
struct Text {
    name: &'static str,
    command: u32,
    workers: u32,
    more: &'static str,
}

impl Text {
    fn new(name: &'static str, workers: u32) -> Text {
        Text { name, command: 1000, workers, more: "" }
    }
}

fn text(pools: &[Text]) -> String {
    let one = |p: &Text| {
        format!(
            "[pool.{}]\ncommand = \"sleep {}\"\nworkers = {}\nready = \"delay:10ms\"\nsettle = \"30ms\"\n{}\n",
            p.name, p.command, p.workers, p.more
        )
    };
    pools.iter().map(one).collect()
}

/// A pid that is given out now: those that are given out later come after it, round the end of the numbers as well.
fn mark() -> u32 {
    let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

/// What happened to each pool according to the log from this line on: slots that were started, in their order, and the most processes at once.
/// Of two that were forked together, either may run its program first: their order is that of the pids since the mark.
fn happened(log: &[String], live: &BTreeMap<String, Vec<u32>>, mark: u32) -> BTreeMap<String, (Vec<u32>, u32)> {
    let most: u32 = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse().unwrap();
    let since = |line: &str| {
        let pid = line.rsplit_once("(pid ").and_then(|(_, rest)| rest.split(')').next()).and_then(|pid| pid.parse::<u32>().ok());
        pid.map(|pid| (pid + most - mark) % most)
    };
    let mut ages: BTreeMap<(String, u32), u32> = BTreeMap::new();
    let mut now: BTreeMap<String, u32> = live.iter().map(|(pool, slots)| (pool.clone(), slots.len() as u32)).collect();
    let mut out: BTreeMap<String, (Vec<u32>, u32)> = now.iter().map(|(pool, n)| (pool.clone(), (Vec::new(), *n))).collect();
    for line in log {
        let Some((who, what)) = line.split_whitespace().nth(2).zip(line.split_whitespace().nth(3)) else { continue };
        let Some((pool, slot)) = who.split_once(':').and_then(|(pool, slot)| Some((pool, slot.parse::<u32>().ok()?))) else {
            continue;
        };
        let count = now.entry(pool.to_owned()).or_default();
        let entry = out.entry(pool.to_owned()).or_default();
        match what {
            "started" => {
                *count += 1;
                entry.1 = entry.1.max(*count);
                entry.0.push(slot);
                ages.insert((pool.to_owned(), slot), since(line).unwrap_or_else(|| panic!("no pid: {line}")));
            }
            "exited" | "killed" => *count -= 1,
            _ => {}
        }
    }
    out.iter_mut().for_each(|(pool, (slots, _))| slots.sort_by_key(|slot| ages.get(&(pool.clone(), *slot)).copied()));
    out
}

#[test]
fn a_corpus_of_edits_is_done_as_the_plan_says() {
    let mut pools = vec![Text::new("a", 4), Text::new("b", 2), Text::new("c", 1)];
    pools[2].more = "rollout = { max_surge = 0, max_unavailable = 1 }";
    let mut m = setup(&text(&pools)).start().ready();
    let find = |pools: &[Text], name: &str| pools.iter().position(|p| p.name == name).unwrap();
    let mut edits = 0;
    let mut edit = |m: &mut Master, pools: &[Text], what: &str| {
        edits += 1;
        m.rewrite(&text(pools));
        let slots = |m: &Master| -> BTreeMap<String, Vec<u32>> {
            let status = m.request(r#"{"method":"status","parameters":{"workers":true}}"#);
            let slots = |p: &Value| p["workers"].as_array().unwrap().iter().map(|w| w["slot"].as_u64().unwrap() as u32).collect();
            let pools = status["parameters"]["pools"].as_array().unwrap().clone();
            pools.iter().map(|p| (p["name"].as_str().unwrap().to_owned(), slots(p))).collect()
        };
        let before = slots(m);
        let said = told(&m.cli(&["plan", "--json"])).1;
        let plan: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap_or_else(|e| panic!("{what}: {e}: {said}"));
        let (from, mark) = (m.log.all().len(), mark());
        m.ok(&["reload"]);
        // Those that leave are gone as well.
        m.log.wait_until("all is calm", || {
            let status = m.request(r#"{"method":"status","parameters":{"workers":true}}"#);
            let pools = status["parameters"]["pools"].as_array().unwrap().clone();
            pools.iter().all(|p| p["live"] == p["ready"] && p["ready"] == p["target"]).then_some(())
        });
        let facts = happened(&m.log.all()[from..], &before, mark);
        for pool in plan["pools"].as_array().unwrap() {
            let name = pool["name"].as_str().unwrap();
            let (started, peak) = facts.get(name).cloned().unwrap_or_default();
            let had = |slot: &&u32| before.get(name).is_some_and(|slots| slots.contains(slot));
            let replaced: Vec<u32> = started.iter().filter(had).copied().collect();
            let order: Vec<u32> = pool["order"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect();
            let verdict = pool["verdict"].as_str().unwrap();
            if verdict == "rolling" {
                assert_eq!(
                    (order.as_slice(), pool["replaces"].as_u64()),
                    (replaced.as_slice(), Some(replaced.len() as u64)),
                    "{what}: {pool}"
                );
            } else {
                assert!(replaced.is_empty() || verdict == "added", "{what}: {pool} {started:?}");
            }
            assert!(u64::from(peak) <= pool["peak"].as_u64().unwrap(), "{what}: {peak} processes, {pool}");
            // With nobody who outstays his stop signal it is no more than that.
            assert!(pool["peak"].as_u64().unwrap() <= u64::from(peak.max(1)) * 3, "{what}: {peak} processes, {pool}");
        }
    };
    let (a, b, c) = (find(&pools, "a"), find(&pools, "b"), find(&pools, "c"));
    edit(&mut m, &pools, "nothing");
    for round in 0..4_u32 {
        let base = 1000 + round * 10;
        pools[a].command = base + 1;
        edit(&mut m, &pools, "all of a");
        pools[b].command = base + 2;
        pools[b].workers = 4;
        edit(&mut m, &pools, "b from 2 to 4, and rolled");
        pools[b].command = base + 3;
        pools[b].workers = 2;
        edit(&mut m, &pools, "b from 4 to 2, and rolled");
        pools[c].command = base + 4;
        edit(&mut m, &pools, "c in place");
        pools[a].workers = 2 + round;
        edit(&mut m, &pools, "only the number of a");
        pools[a].more =
            ["graceful_timeout = \"9s\"", "graceful_timeout = \"8s\"", "rollout.max_surge = 2", "rollout.max_surge = \"50%\""]
                [round as usize];
        edit(&mut m, &pools, "a live key of a");
        pools.iter_mut().for_each(|p| p.command = base + 5);
        edit(&mut m, &pools, "everything");
        pools.push(Text { command: base + 6, ..Text::new("d", 1 + round) });
        edit(&mut m, &pools, "a new pool");
        pools[a].command = base + 7;
        pools.pop();
        edit(&mut m, &pools, "one goes, and one is rolled");
        m.ok(&["scale", "a", "5"]);
        pools[a].command = base + 8;
        edit(&mut m, &pools, "rolled with an operator's number");
    }
    assert!(edits >= 40, "{edits}");
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}
