//! Stories about whole clusters, in words: what happens to whom, one command to a line.
//!
//! They are the golden transcripts of raft-core, told with the servers of [`crate::explore`]. A
//! story written by hand can be explored from its end on, and a path that an exploration has found
//! is written as a story, which replays.
//!
//! ```text
//! cluster 1 2 3 [learners 4] [pre_vote=off] [check_quorum=off] [leases=on] [disk=slow]
//!         [batch=ENTRIES]
//! campaign 1, stepdown 1                  an operator's wishes
//! fire 1                                  the next deadline of node 1 passes
//! pass 1 BEATS                            the clock of node 1 goes on; a lease lasts for two beats
//! silence 1                               an election timeout passes at node 1, no deadline does
//! patience 1                              node 1 asks its peers for what is damaged there
//! propose 1, read 1                       a client's command x1, x2 .. and linearizable read
//! transfer 1 3                            node 1 shall hand over to node 3
//! change 1 [joint] STEP.., change 1 leave a membership change: add 4, promote 4, demote 3,
//!                                         remove 3, replace 3 4, in order and all at once;
//!                                         a `joint` one lasts until `leave`
//! snapshot 1                              node 1's host makes a snapshot of what it has applied
//! damage 1 4                              node 1 finds that it cannot read the entry at 4 any more
//! slow 2.., persist 2 [BATCHES], fast 2.. node 2's disk writes when told to, now, at once again
//! crash 3 [keep BATCHES [PIECES]]         node 3 crashes and starts again; of what was on its way
//!                                         to the disk these batches were written, and these
//!                                         pieces of the next one
//! crash 3 [keep ..] damage 4, .. lose 4   then the entry at 4 cannot be read any more; the log from
//!                                         4 on is gone, and that it was there is all that is known
//! crash 3 [keep ..] damage snapshot       then the bytes of its snapshot cannot be read any more
//! crash 3 [keep ..] [damage ..] commit 2  its disk says that entries through 2 are committed
//! deliver [FILTER..]                      until nothing moves: what passes a filter, or all
//! round [FILTER..]                        what is on its way now, not what it causes
//! deliver [#NTH] n1->n2 t1 WORDS          one message: the first, or nth, that begins like this
//! drop [FILTER..]                         loses every copy of what passes
//! reach LANDMARK                          an exploration of what follows proves nothing without this
//! reach with FLAG LANDMARK                the same, if it is asked for crashes, reads, transfers ..
//! quietly COMMAND                         the same, without telling
//! network, status [1..], logs             shows what is on its way, the nodes, and their logs
//! ```
//! A FILTER is `1->2`, `1->`, `->2` (one of them must hold) or the kind of a message (one of them
//! too). Several commands share a line if ` ; ` stands between them. Lines that begin with `>` are
//! commands, empty ones and those that begin with `#` are kept, and all others are what was told.
//!
//! Disks: what a node writes is durable at once, as in the transcripts of raft-core, and waits for
//! `persist` with `disk=slow`, as in an exploration.
//!
//! The network forgets nothing. A message that has arrived is not on its way any more, but it may
//! be delivered by name again, as often as one likes, and an exploration counts on it. Only `drop`
//! loses a message for good.
//!
//! Each step is judged like a step of an exploration. One that breaks an invariant is the last: the
//! transcript ends with what is violated, and what that means.
//!
//! Deliberately absent: time in units other than beats, and nodes that are down. A crash ends with
//! the restart; a node that nothing is delivered to is as good as gone.

mod json;
mod language;
mod path;
mod player;
mod scribe;
mod tables;
#[cfg(test)]
mod tests;
mod words;

use crate::explore::facts::Broken;
use crate::explore::host::Host;
use crate::explore::past::Past;
use crate::explore::start::Start;

use language::{Command, SEPARATOR, Setting};
use player::{Player, Stop, Taken};

pub use language::ScriptError;
pub(crate) use path::{continued, of_path};
pub use scribe::Story;
pub(crate) use scribe::{Overheard, Scribe};

/// Plays a script: its commands and comments, and what happens after each command.
///
/// A transcript is a script, and plays to itself.
///
/// # Errors
/// The first line that makes no sense.
pub fn play(text: &str) -> Result<String, ScriptError> {
    Ok(tell(text)?.lines.join("\n") + "\n")
}

/// The steps of a script for other programs: one JSON object a line.
///
/// # Errors
/// The first line that makes no sense.
pub fn trace(text: &str) -> Result<String, ScriptError> {
    let told = tell(text)?;
    let mut lines = told.setting.as_ref().map(json::head).into_iter().collect::<Vec<_>>();
    lines.extend(told.steps.iter().flat_map(json::step));
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}

impl Start {
    /// The cluster at the end of a script, for an exploration to begin with.
    ///
    /// # Errors
    /// The first line that makes no sense; a script that ends with a violation makes none.
    pub(crate) fn from_script(text: &str) -> Result<Self, ScriptError> {
        let Told { lines, player, broken, steps, .. } = tell(text)?;
        let end = |what: String| ScriptError { line: text.lines().count().max(1), what };
        if broken.is_some() {
            return Err(end(format!("ends too early: {}", lines[lines.len() - 2])));
        }
        let player = player.ok_or_else(|| end("a story begins with `cluster`".to_owned()))?;
        let start = player.start();
        let mut founded = start.hosts.clone();
        for step in steps.iter().rev() {
            founded[step.at] = Host::clone(&step.before);
        }
        let acts = steps.into_iter().map(|step| (step.at, step.input)).collect();
        Ok(start.after(&Past { founded, acts }))
    }
}

/// A script that was played.
#[derive(Debug, Default)]
struct Told {
    setting: Option<Setting>,
    player: Option<Player>,
    lines: Vec<String>,
    steps: Vec<Taken>,
    broken: Option<Broken>,
}

fn tell(text: &str) -> Result<Told, ScriptError> {
    let mut told = Told::default();
    for (at, line) in text.lines().enumerate() {
        if let Some(commands) = line.strip_prefix('>') {
            told.lines.push(line.to_owned());
            for command in commands.split(SEPARATOR) {
                let stop = language::command(command).map_err(Stop::Wrong);
                match stop.and_then(|command| told.execute(&command)) {
                    Ok(()) => {}
                    Err(Stop::Wrong(what)) => return Err(ScriptError { line: at + 1, what }),
                    Err(Stop::Broken(broken)) => {
                        told.violated(broken);
                        return Ok(told);
                    }
                }
            }
        } else if line.is_empty() || line.starts_with('#') {
            told.lines.push(line.to_owned());
        }
    }
    Ok(told)
}

impl Told {
    fn execute(&mut self, command: &Command) -> Result<(), Stop> {
        let Some(player) = &mut self.player else {
            let Command::Cluster(setting) = command else {
                return Err(Stop::Wrong("a story begins with `cluster`".to_owned()));
            };
            self.setting = Some(*setting);
            self.player = Some(Player::new(setting));
            return Ok(());
        };
        let done = player.execute(command);
        let (mut lines, mut steps) = player.heard();
        self.lines.append(&mut lines);
        self.steps.append(&mut steps);
        done
    }

    fn violated(&mut self, broken: Broken) {
        let Broken { id, what } = &broken;
        self.lines.push(format!("violated {id}: {what}"));
        self.lines.push(format!("  {id} means: {}", broken.meaning()));
        self.broken = Some(broken);
    }
}
