//! `config`: placeholder until its own file is merged over this one.

use super::{Context, Exit};

/// Placeholder.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Placeholder
    #[arg(trailing_var_arg = true)]
    pub rest: Vec<String>,
}

/// Placeholder: refuses.
pub fn run(_args: &Args, _ctx: &Context) -> Exit {
    super::output::err("poolmaster: config is not part of this build\n");
    Exit::Internal
}
