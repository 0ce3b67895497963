//! Owns how `help` groups the verbs. Names and texts come from the verbs themselves; only the grouping is written here.

use clap::{Args as _, CommandFactory};

use super::{Cli, Reach};

/// The groups, in the order in which people need them.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Everyday", &["run", "status", "ps", "scale", "reload", "restart", "start", "stop", "shutdown"]),
    ("Change", &["init", "check", "plan", "config", "rollback", "history", "upgrade", "reopen"]),
    ("Insight", &["wait", "health", "signals", "listeners"]),
    ("Pools", &["retry", "kill"]),
    ("Set-up", &["completions", "worker", "help"]),
];

const EXAMPLES: &str = "\
Examples:
  poolmaster run pools.toml                      keep the pools of a config
  poolmaster run --listen :8000 -- ./server      no config: one pool named main
  poolmaster status                              what is up, and why what is not
  poolmaster scale web +1                        returns once the worker is ready

Exit codes: 0 done, 1 failed, 2 wrong usage or wrong config, 3 rolled back (of
`run`: a worker could not boot), 4 no master reached (of `run`: a worker could
not load its application), 5 timed out, the work goes on, 6 not permitted,
7 refused, 70 internal error. More: `poolmaster help VERB`, `man poolmaster`.
";

/// Verbs that talk to no master: flags that find one mean nothing to them.
pub(super) const ALONE: [&str; 6] = ["run", "init", "check", "config", "completions", "worker"];

/// The groups of verbs, without `help`, which has no page of its own.
pub fn groups() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    GROUPS.iter().map(|(group, verbs)| (*group, verbs.iter().copied().filter(|verb| *verb != "help").collect()))
}

/// The whole command line, with grouped help. The flags that find a master may stand before a verb and after it.
pub fn command() -> clap::Command {
    let command = Cli::command().mut_subcommands(|verb| {
        if ALONE.contains(&verb.get_name()) {
            return verb;
        }
        // The flags bring the text of their struct along, which is about the flags.
        let about = verb.get_about().cloned();
        Reach::augment_args(verb).about(about.unwrap_or_default())
    });
    let mut verbs = String::new();
    for (group, names) in GROUPS {
        verbs.push_str(&title(group));
        verbs.push('\n');
        for name in names {
            let about = match command.find_subcommand(name).and_then(clap::Command::get_about) {
                Some(about) => about.to_string(),
                None => "Explain a verb: `poolmaster help scale`".to_owned(),
            };
            verbs.push_str(&format!("  \x1b[1m{name:<11}\x1b[0m {about}\n"));
        }
        verbs.push('\n');
    }
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{verbs}{}\n{{options}}{{after-help}}",
        title("Which master, and how")
    );
    command.help_template(template).after_help(EXAMPLES)
}

/// A heading as clap writes its own; clap takes the escapes out where there is no terminal.
fn title(text: &str) -> String {
    format!("\x1b[1m\x1b[4m{text}:\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_in_one_group_and_every_name_is_a_verb() {
        let command = Cli::command();
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        for verb in command.get_subcommands().map(clap::Command::get_name) {
            assert_eq!(grouped.iter().filter(|g| **g == verb).count(), 1, "{verb}");
        }
        for name in grouped {
            assert!(name == "help" || command.find_subcommand(name).is_some(), "{name}");
        }
    }

    #[test]
    fn every_verb_says_what_it_does_itself() {
        let command = command();
        let abouts: std::collections::BTreeSet<String> =
            command.get_subcommands().map(|verb| verb.get_about().expect("a text").to_string()).collect();
        assert_eq!(abouts.len(), command.get_subcommands().count(), "{abouts:#?}");
        assert!(abouts.contains("Change how many workers a pool has"), "{abouts:#?}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn help_fits_a_terminal() {
        let plain = |command: &mut clap::Command| command.clone().term_width(80).render_long_help().to_string();
        let mut whole = command();
        let top = plain(&mut whole);
        for (group, _) in GROUPS {
            assert!(top.contains(&format!("{group}:\n")), "{group} is missing:\n{top}");
        }
        let too_wide = |text: &str| text.lines().filter(|l| l.chars().count() > 80).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(too_wide(&top), Vec::<String>::new());
        for verb in whole.get_subcommands_mut() {
            let text = plain(verb);
            assert_eq!(too_wide(&text), Vec::<String>::new(), "{}", verb.get_name());
            assert!(text.contains("Example"), "{} has no example", verb.get_name());
        }
    }
}
