//! What is typed to carry out runbooks.

use clap::{Args, Subcommand, ValueHint};
use lifeboat_runbook::StepId;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum RunbookCommand {
    /// List the runs of this machine, newest first
    List {
        /// And those that the repository has
        #[arg(long)]
        mirrored: bool,
    },
    /// Show what a runbook does, or where a run is
    Show {
        /// A runbook's file, or the name of a run
        #[arg(value_name = "FILE|RUN", value_hint = ValueHint::FilePath)]
        what: String,
        /// The run as the repository has it, also where this machine has it too
        #[arg(long)]
        mirrored: bool,
    },
    /// Carry out a runbook
    ///
    /// On a terminal it shows where the run is and takes what you type; elsewhere it prints a line an event. A run
    /// survives its process: `lifeboat runbook resume` goes on with it. Exits with 4 where it stopped and people are
    /// needed.
    Run(RunArgs),
    /// Go on with a run, or take it over
    Resume(ResumeArgs),
    /// Agree to a step, with your key
    Approve(ApproveArgs),
    /// Say that you did a step, or could not
    Confirm {
        #[command(flatten)]
        about: About,
        /// It could not be done
        #[arg(long)]
        failed: bool,
        /// What there is to say about it
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Leave a step out
    Skip {
        #[command(flatten)]
        about: About,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Try a step that failed, or its undo, once more
    Again {
        #[command(flatten)]
        about: About,
        /// What makes you think that it works now
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Say what happened to a step of which nobody knows
    Settle {
        #[command(flatten)]
        about: About,
        /// It was carried out
        #[arg(long, conflicts_with = "not_done", required_unless_present = "not_done")]
        done: bool,
        /// It was not carried out
        #[arg(long)]
        not_done: bool,
        /// How you know
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// What it left, for the steps that go on with it
        #[arg(long = "output", value_name = "NAME=VALUE", value_parser = input, conflicts_with = "not_done")]
        outputs: Vec<(String, String)>,
    },
    /// Begin no more steps
    Pause {
        #[command(flatten)]
        run: OfRun,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Begin steps again after a pause
    Continue {
        #[command(flatten)]
        run: OfRun,
        /// Wait for the mirror no more: how you know that nobody goes on with the run elsewhere
        #[arg(long, value_name = "TEXT")]
        without_mirror: Option<String>,
    },
    /// Give a run up, and undo what was done
    Abort {
        #[command(flatten)]
        run: OfRun,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Undo nothing
        #[arg(long)]
        keep: bool,
    },
    /// Make a key to agree with, and print its public half for the plan
    Key {
        /// Where the private half is written
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

/// A run, and who speaks.
#[derive(Debug, Args)]
pub(crate) struct OfRun {
    /// The run; the beginning of its name is enough
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// Who you are, as the plan calls you
    #[arg(long, env = "LIFEBOAT_PERSON", value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// Say it through the repository, also where this machine has the run: another one executes it now
    #[arg(long)]
    pub(crate) mirrored: bool,
}

/// A step of a run, and who speaks.
#[derive(Debug, Args)]
pub(crate) struct About {
    #[command(flatten)]
    pub(crate) run: OfRun,
    /// The step
    #[arg(value_name = "STEP")]
    pub(crate) step: StepId,
}

#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    #[command(flatten)]
    pub(crate) about: About,
    /// Where your key is: file:PATH, env:NAME, command:COMMAND or vault:PATH#FIELD
    #[arg(long, env = "LIFEBOAT_APPROVER_KEY", hide_env_values = true, value_name = "SOURCE")]
    pub(crate) with: String,
    /// Agree without being asked whether you mean it
    #[arg(long)]
    pub(crate) yes: bool,
}

/// How a run is driven.
#[derive(Debug, Args)]
pub(crate) struct Drive {
    /// Who you are, as the plan calls you
    #[arg(long, env = "LIFEBOAT_PERSON", value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// End where people are needed, instead of waiting for them
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How many steps are carried out at once
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) width: u16,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The runbook
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// What it has to be told; of a secret where it is (env:NAME, file:PATH)
    #[arg(short, long = "input", value_name = "NAME=VALUE", value_parser = input)]
    pub(crate) inputs: Vec<(String, String)>,
    /// When what it recovers from began: the recovery time counts from then
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Mirror the run to the repository, so that it can be continued elsewhere
    #[arg(long)]
    pub(crate) mirror: bool,
    /// Look whether everything is there that it needs, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) drive: Drive,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// The run; the beginning of its name is enough
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// Take it over from another process, or from a machine that is gone
    #[arg(long)]
    pub(crate) take_over: bool,
    /// That the other is stopped, and how you know: needed where it may still act
    #[arg(long, value_name = "TEXT", requires = "take_over")]
    pub(crate) stopped: Option<String>,
    #[command(flatten)]
    pub(crate) drive: Drive,
}

fn input(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("say NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
