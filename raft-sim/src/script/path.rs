//! How a path of an exploration is written as a script.

use super::language::{Ask, Command, SEPARATOR, ScriptError, Setting};
use super::player::Player;
use super::{play, tell};
use crate::explore::Bounds;
use crate::explore::host::Input;

/// The transcript of a path from the founding of a cluster.
pub(crate) fn of_path(bounds: &Bounds, path: &[(usize, Input)]) -> String {
    let setting = Setting {
        voters: bounds.nodes,
        learners: bounds.learners,
        pre_vote: bounds.pre_vote,
        check_quorum: bounds.check_quorum,
        leases: bounds.leases,
        is_slow: true,
        batch: None,
    };
    let head = format!("> {}", Command::Cluster(setting));
    continued(&head, path).expect("what is written here can be read")
}

/// The transcript of a script and of a path from its end on.
///
/// # Errors
/// The first line of the script that makes no sense.
pub(crate) fn continued(text: &str, path: &[(usize, Input)]) -> Result<String, ScriptError> {
    let told = tell(text)?;
    let mut lines = told.lines;
    let Some(mut player) = told.player.filter(|_| told.broken.is_none()) else {
        return Ok(lines.join("\n") + "\n");
    };
    let fast = player.fast();
    if !fast.is_empty() && !path.is_empty() {
        let pace = Command::Pace { servers: fast, is_slow: true };
        lines.push(format!("> {pace}"));
        player.execute(&pace).expect("the servers are there");
    }
    let mut last = None;
    for (at, input) in path {
        let command = written(&player, *at, input);
        match lines.last_mut() {
            // What a node writes at once belongs to what made it write.
            Some(line) if last == Some(*at) && command == Command::Ask(*at, Ask::Persist(None)) => {
                line.push_str(&format!("{SEPARATOR}{command}"));
            }
            Some(_) | None => lines.push(format!("> {command}")),
        }
        last = Some(*at);
        if player.take(*at, input.clone()).is_err() {
            break;
        }
    }
    play(&lines.join("\n"))
}

/// The command that gives a server this input.
fn written(player: &Player, at: usize, input: &Input) -> Command {
    let ask = match input {
        Input::Deliver(envelope) => {
            let name = player.name(envelope);
            let name =
                name.unwrap_or_else(|| panic!("a path delivers what was sent on it: {envelope:?}"));
            return Command::Hand(name);
        }
        Input::Fire => Ask::Fire,
        Input::Silence => Ask::Silence,
        Input::Patience => Ask::Patience,
        Input::Persist { batches } if *batches == player.unsynced(at) => Ask::Persist(None),
        Input::Persist { batches } => Ask::Persist(Some(*batches)),
        Input::Crash { whole, pieces, loss, commit } => {
            Ask::Crash { whole: *whole, pieces: *pieces, loss: *loss, commit: *commit }
        }
        Input::Propose { .. } => Ask::Propose,
        Input::Read { .. } => Ask::Read,
        Input::Transfer { to, .. } => {
            let to = usize::try_from(*to).expect("servers have small numbers") - 1;
            Ask::Transfer { to }
        }
        Input::Change { change, .. } => Ask::Change(change.clone()),
        Input::Snapshot => Ask::Snapshot,
        Input::Damage { index } => Ask::Damage(*index),
        Input::Campaign => Ask::Campaign,
        Input::StepDown => Ask::StepDown,
        Input::Pass { beats } => Ask::Pass { beats: *beats },
    };
    Command::Ask(at, ask)
}
