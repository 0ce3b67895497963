//! `completions`: what a shell needs to complete the words of this command line.

use clap_complete::Shell;

use super::{Exit, output};

/// Print a script that completes this command line in a shell
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  source <(poolmaster completions bash)                  in this bash
  poolmaster completions zsh > ~/.zfunc/_poolmaster      for each new zsh
  poolmaster completions fish | source                   in this fish
  eval (poolmaster completions elvish | slurp)           in this elvish")]
pub struct Args {
    /// For which shell
    #[arg(value_name = "SHELL", value_parser = shells())]
    pub shell: Shell,
}

/// The shells whose scripts are tried out in the tests.
fn shells() -> impl clap::builder::TypedValueParser<Value = Shell> {
    use clap::builder::{PossibleValuesParser, TypedValueParser as _};
    PossibleValuesParser::new(["bash", "elvish", "fish", "zsh"]).try_map(|name| name.parse::<Shell>())
}

/// The script for a shell.
pub fn script(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "poolmaster", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Prints it.
pub fn run(args: &Args) -> Exit {
    if output::out(&script(args.shell)) { Exit::Done } else { Exit::Failed }
}
