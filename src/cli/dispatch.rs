//! Owns the way from the words that were typed to an exit code: parse, hand over to the verb, say how it ended.

use std::ffi::OsString;

use clap::FromArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::groups::ALONE;
use super::{Answer, Cli, Context, Exit, Reach, Session, Verb, output};
use super::{
    check, completions, config, health, history, init, kill, listeners, plan, ps, reload, reopen, restart, retry, rollback, run,
    scale, shutdown, signals, start, status, stop, upgrade, wait, worker,
};
use crate::client::ClientError;
use crate::telemetry::turns_text;

/// Does what these words say (the program's name first) and returns the exit code.
pub fn main(words: impl IntoIterator<Item = OsString>, ctx: &Context) -> u8 {
    let (Cli { verb, .. }, reach) = match parse(words) {
        Ok(parsed) => parsed,
        Err(e) => return usage(&e),
    };
    let session = Session::new(&reach, ctx);
    let answer = match &verb {
        Verb::Run(args) => return own(run::run(args, ctx), Exit::meaning_of_run),
        Verb::Check(args) => return own(check::run(args, ctx), Exit::meaning_of_look),
        Verb::Config(args) => return own(config::run(args, ctx), Exit::meaning_of_look),
        Verb::Init(args) => return own(init::run(args, ctx), Exit::meaning),
        Verb::Completions(args) => return own(completions::run(args), Exit::meaning),
        Verb::Worker(args) => return worker::run(args, ctx),
        Verb::Status(args) => status::run(args, &session),
        Verb::Ps(args) => ps::run(args, &session),
        Verb::Scale(args) => scale::run(args, &session),
        Verb::Plan(args) => plan::run(args, &session),
        Verb::Rollback(args) => rollback::run(args, &session),
        Verb::Upgrade(args) => upgrade::run(args, &session),
        Verb::History(args) => history::run(args, &session),
        Verb::Reload(args) => reload::run(args, &session),
        Verb::Restart(args) => restart::run(args, &session),
        Verb::Start(args) => start::run(args, &session),
        Verb::Stop(args) => stop::run(args, &session),
        Verb::Shutdown(args) => shutdown::run(args, &session),
        Verb::Reopen(args) => reopen::run(args, &session),
        Verb::Wait(args) => wait::run(args, &session),
        Verb::Health(args) => health::run(args, &session),
        Verb::Signals(args) => signals::run(args, &session),
        Verb::Listeners(args) => listeners::run(args, &session),
        Verb::Retry(args) => retry::run(args, &session),
        Verb::Kill(args) => kill::run(args, &session),
    };
    finish(answer, &reach)
}

/// The verb, and the flags that find a master from before and after it.
pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<(Cli, Reach), clap::Error> {
    let matches = super::command().try_get_matches_from(words)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let before = cli.reach.clone();
    let reach = match matches.subcommand() {
        Some((verb, _)) if ALONE.contains(&verb) => match before.given() {
            Some(flag) => {
                let words = format!(
                    "`{verb}` talks to no running master: {flag} before it means nothing; see `poolmaster {verb} --help`"
                );
                return Err(super::command().error(ErrorKind::ArgumentConflict, words));
            }
            None => before,
        },
        Some((_, after)) => Reach::from_arg_matches(after)?.or(before),
        None => before,
    };
    match &cli.verb {
        Verb::Stop(args) if args.pools.is_empty() => Err(stop::nothing_named(&mut super::command())),
        _ => Ok((cli, reach)),
    }
}

/// A verb that speaks for itself ended.
fn own(exit: Exit, meaning: fn(Exit) -> &'static str) -> u8 {
    output::last_line(exit, meaning(exit));
    exit.code()
}

/// Verbs that are described, and are not there yet.
const LATER: [&str; 10] = ["logs", "top", "events", "explain", "doctor", "pause", "resume", "generate", "import", "man"];

/// Help and version go to stdout and are no error; the rest is.
fn usage(e: &clap::Error) -> u8 {
    if let Some(ContextValue::String(verb)) = e.get(ContextKind::InvalidSubcommand)
        && LATER.contains(&verb.as_str())
    {
        output::err(&format!("error: `poolmaster {verb}` is not in this version yet; `poolmaster help` lists what is\n"));
        return own(Exit::Usage, Exit::meaning_of_look);
    }
    let plain = e.render().to_string();
    if e.use_stderr() && plain.chars().any(turns_text) {
        output::err(&plain);
    } else {
        // Its only failure is a reader that went away.
        let _ = e.print();
    }
    match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done.code(),
        // What was not understood has changed nothing, and need not say so.
        _ => own(Exit::Usage, Exit::meaning_of_look),
    }
}

/// Shows what a verb got from the master.
fn finish(answer: Result<Answer, ClientError>, reach: &Reach) -> u8 {
    if let Err(ClientError::Interrupted(words)) = &answer {
        output::err(&format!("poolmaster: {}\n", super::words::printable(words)));
        super::interrupt::end();
        return Exit::of(ClientError::Interrupted(String::new()).code()).code();
    }
    let several = matches!(&answer, Err(ClientError::Several(_)));
    let (text, exit, why) = match answer {
        Ok(Answer { text, exit, why }) => (text, exit, why),
        Err(e) => {
            let exit = Exit::of(e.code());
            let json = serde_json::json!({ "error": e.name(), "parameters": { "code": exit.code(), "message": e.to_string() } });
            (if reach.json { format!("{json}\n") } else { String::new() }, exit, e.to_string())
        }
    };
    let written = output::out(&text);
    if exit != Exit::Done && !why.is_empty() {
        output::err(&format!("poolmaster: {}\n", why.lines().map(super::words::printable).collect::<Vec<_>>().join("\n")));
    }
    output::last_line(exit, if several { "which master is meant was not said" } else { exit.meaning() });
    if exit == Exit::Done && !written { own(Exit::Failed, Exit::meaning) } else { exit.code() }
}
