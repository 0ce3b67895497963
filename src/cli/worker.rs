//! `worker`: placeholder until its own file is merged over this one.

use super::Context;

/// Placeholder.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Placeholder
    #[arg(trailing_var_arg = true)]
    pub rest: Vec<String>,
}

/// Placeholder: refuses.
pub fn run(_args: &Args, _ctx: &Context) -> u8 {
    super::output::err("poolmaster: worker is not part of this build\n");
    70
}
