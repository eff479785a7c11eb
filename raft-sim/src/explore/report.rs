//! What a person reads about an exploration.
//!
//! If an invariant is broken, that comes first: which, what it means, the shortest path to it, and
//! the command that finds it again. Then how much was visited, what was covered, and which landmarks
//! were reached. All of it is the same every time, with any number of threads.

use std::fmt;

use super::bounds::{ANY_NUMBER, Bounds};
use super::coverage::Covered;
use super::facts::Broken;
use super::landmarks;
use super::search::Progress;

/// What came of an exploration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// With what a start has spent already.
    pub(crate) bounds: Bounds,
    /// What was asked for.
    pub(crate) asked: Bounds,
    /// Where the script is that it started from. Then the landmarks of a whole life are not demanded,
    /// but those that the script names.
    pub(crate) from: Option<String>,
    pub(crate) demands: Vec<&'static str>,
    pub(crate) verdict: Verdict,
    pub(crate) progress: Progress,
    pub(crate) names: Named,
    pub(crate) coverage: Covered,
}

/// How an exploration ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every state within the bounds was visited, and keeps every promise.
    Complete,
    /// It was stopped before that; what was visited keeps every promise.
    Stopped,
    /// A step breaks a promise.
    Violated {
        /// The promise.
        broken: Broken,
        /// How many steps the path to it has.
        depth: usize,
        /// Whether none has fewer; it is not known if the search for it was stopped.
        is_nearest: bool,
        /// That path, for a person.
        path: String,
        /// The same as a trace: one JSON object a line.
        trace: String,
    },
}

/// How many of a kind have a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// States of single servers.
    pub hosts: usize,
    /// Messages.
    pub letters: usize,
    /// Sets of messages on their way to one server.
    pub inboxes: usize,
    /// Histories of the group.
    pub histories: usize,
}

impl Report {
    /// How it ended.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// How much was visited.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// How many of each kind were met.
    #[must_use]
    pub fn names(&self) -> Named {
        self.names
    }

    /// The sentences of the landmarks that were reached.
    pub fn reached(&self) -> impl Iterator<Item = &'static str> {
        let all = landmarks::all().enumerate();
        all.filter(|(at, _)| self.coverage.reached(*at) > 0).map(|(_, landmark)| landmark.what)
    }

    /// The sentences of the landmarks that must be reached within the bounds or after the script, and
    /// were not.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> {
        let all = landmarks::all().enumerate().filter(|(_, landmark)| self.is_expected(landmark));
        let unreached = all.filter(|(at, _)| self.coverage.reached(*at) == 0);
        unreached.map(|(_, landmark)| landmark.what)
    }

    fn is_expected(&self, landmark: &landmarks::Landmark) -> bool {
        match self.from {
            Some(_) => self.demands.contains(&landmark.what),
            None => (landmark.is_expected)(&self.bounds),
        }
    }

    /// Whether it is complete and has not reached what its bounds demand: then it proves nothing.
    #[must_use]
    pub fn is_vacuous(&self) -> bool {
        self.verdict == Verdict::Complete && self.missing().next().is_some()
    }

    /// The command that repeats the exploration.
    #[must_use]
    pub fn reproduce(&self) -> String {
        let arguments = self.arguments();
        let version = crate::report::version();
        format!("cargo run --release -p raft-sim -- explore{arguments} # raft-sim {version}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Complete if self.is_vacuous() => {
                writeln!(f, "verdict    VACUOUS: what is demanded was not reached")?;
            }
            Verdict::Complete => {
                writeln!(f, "verdict    complete: every state keeps every promise")?;
            }
            Verdict::Stopped => {
                writeln!(f, "verdict    stopped: what was visited keeps every promise")?;
            }
            Verdict::Violated { broken, depth, is_nearest, path, trace: _ } => {
                self.tell(broken, *depth, *is_nearest, path, f)?
            }
        }
        self.tell_figures(f)?;
        let (cells, steps) = (self.coverage.cells(), self.coverage.steps());
        writeln!(f, "coverage   {cells} cells: role, input: outcomes of {steps} distinct steps")?;
        write!(f, "{}", self.coverage)?;
        self.tell_landmarks(f)
    }
}

impl Report {
    fn arguments(&self) -> String {
        arguments(&self.asked, self.from.as_deref())
    }

    fn tell(
        &self,
        broken: &Broken,
        depth: usize,
        is_nearest: bool,
        path: &str,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        writeln!(f, "violated   {} at depth {depth}: {}", broken.id, broken.what)?;
        writeln!(f, "meaning    {}", broken.meaning())?;
        if !is_nearest {
            writeln!(f, "stopped    before it was known whether a shorter path leads there")?;
        }
        for line in path.lines() {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "reproduce  {}", self.reproduce())
    }

    fn tell_figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { states, transitions, depth, frontier, bytes } = self.progress;
        let Named { hosts, letters, inboxes, histories } = self.names;
        writeln!(f, "bounds    {}", self.arguments())?;
        writeln!(f, "states     {states}")?;
        writeln!(f, "transitions {transitions}")?;
        writeln!(f, "depth      {depth}")?;
        writeln!(f, "frontier   {frontier}")?;
        writeln!(f, "memory     {bytes} bytes, {} a state", bytes.div_ceil(states.max(1)))?;
        writeln!(
            f,
            "names      {hosts} servers, {letters} messages, {inboxes} inboxes, {histories} \
             histories"
        )
    }

    fn tell_landmarks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = landmarks::all().filter(|landmark| self.is_expected(landmark)).count();
        let missing = self.missing().count();
        write!(f, "landmarks  {} of {expected} reached", expected - missing)?;
        for (at, landmark) in landmarks::all().enumerate() {
            let count = self.coverage.reached(at);
            let count = match (self.is_expected(landmark), count) {
                (false, 0) => continue,
                (true, 0) => "MISSING".to_owned(),
                (false | true, _) if landmark.is_of_cluster() => "seen".to_owned(),
                (false | true, _) => count.to_string(),
            };
            write!(f, "\n  {count:>9}  {}", landmark.what)?;
        }
        Ok(())
    }
}

/// The arguments that mean these bounds, each after a space. Those that every exploration should be
/// read with are always there; others only if they are not the usual. A script has its own servers
/// with their options.
fn arguments(bounds: &Bounds, from: Option<&str>) -> String {
    let usual = Bounds::default();
    let Bounds { nodes, terms, entries, crashes, .. } = *bounds;
    let mut text = match from {
        Some(path) => format!(" --from {path}"),
        None => format!(" --nodes {nodes}"),
    };
    text.push_str(&format!(" --terms {terms} --entries {entries} --crashes {crashes}"));
    let is_founded = from.is_none();
    let learners = if is_founded { bounds.learners } else { usual.learners };
    let numbers = [
        ("damages", bounds.damages, usual.damages),
        ("lost-tails", bounds.lost_tails, usual.lost_tails),
        ("learners", learners, usual.learners),
        ("reads", bounds.reads, usual.reads),
        ("transfers", bounds.transfers, usual.transfers),
        ("changes", bounds.changes, usual.changes),
        ("snapshots", bounds.snapshots, usual.snapshots),
        ("heartbeats", bounds.heartbeats, usual.heartbeats),
        ("attempts", bounds.attempts, usual.attempts),
    ];
    for (name, value, _) in numbers.iter().filter(|(_, value, usual)| value != usual) {
        let value = if *value == ANY_NUMBER { "any".to_owned() } else { value.to_string() };
        text.push_str(&format!(" --{name} {value}"));
    }
    if let Some(campaigns) = bounds.campaigns {
        text.push_str(&format!(" --campaigns {campaigns}"));
    }
    let flags = [
        ("rot", bounds.rot),
        ("beyond", bounds.beyond),
        ("pre-vote", is_founded && bounds.pre_vote),
        ("check-quorum", is_founded && bounds.check_quorum),
        ("forward", bounds.forward),
        ("leases", bounds.leases),
        ("no-collect", !bounds.collect),
        ("no-subsume", !bounds.subsume),
        ("no-hurry", !bounds.hurry && (bounds.crashes > 0 || bounds.campaigns.is_some())),
        ("gather", bounds.gather),
        ("no-symmetry", !bounds.symmetry),
    ];
    for (name, _) in flags.iter().filter(|(_, is_set)| *is_set) {
        text.push_str(&format!(" --{name}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicBool;

    use super::super::run_from;
    use super::*;

    fn report(verdict: Verdict) -> Report {
        Report {
            bounds: Bounds::default(),
            asked: Bounds::default(),
            from: None,
            demands: Vec::new(),
            verdict,
            progress: Progress { states: 4, transitions: 9, depth: 2, frontier: 0, bytes: 100 },
            names: Named::default(),
            coverage: Covered::default(),
        }
    }

    #[test]
    fn a_complete_exploration_that_reaches_nothing_is_vacuous() {
        let report = report(Verdict::Complete);
        assert!(report.is_vacuous());
        let shown = report.to_string();
        assert!(shown.starts_with("verdict    VACUOUS: "), "{shown}");
        assert!(shown.contains("\n    MISSING  a server wins an election\n"), "{shown}");
        assert!(shown.contains("\nlandmarks  0 of "), "{shown}");
    }

    #[test]
    fn what_the_bounds_do_not_demand_is_not_missing() {
        let bounds = Bounds { crashes: 0, ..Bounds::default() };
        let report = Report { bounds, ..report(Verdict::Complete) };
        let is_crash = |what: &&str| what.contains("crash");
        assert_eq!(report.missing().find(is_crash), None);
        assert!(!report.to_string().contains("crash comes"));
    }

    /// What a script demands counts, and nothing else.
    #[test]
    fn what_follows_a_script_is_vacuous_without_what_the_script_demands() {
        let script = "> cluster 1 2 pre_vote=off check_quorum=off\n> fire 1\n> deliver\n\
                      > reach a client's command is committed\n";
        let stop = AtomicBool::new(false);
        for (entries, is_vacuous) in [(0, true), (1, false)] {
            let bounds = Bounds { terms: 1, entries, crashes: 0, ..Bounds::default() };
            let report = run_from("it", script, &bounds, 1, &stop, |_| ()).expect("it is a script");
            assert_eq!((report.verdict(), report.is_vacuous()), (&Verdict::Complete, is_vacuous));
            let reached = usize::from(!is_vacuous);
            let line = format!("\nlandmarks  {reached} of 1 reached\n");
            assert!(report.to_string().contains(&line), "{report}");
        }
    }

    #[test]
    fn a_stopped_exploration_is_not_vacuous() {
        let report = report(Verdict::Stopped);
        assert!(!report.is_vacuous());
        assert!(report.to_string().starts_with("verdict    stopped: "));
    }

    #[test]
    fn a_violation_comes_first_with_its_meaning_its_path_and_its_command() {
        let broken = Broken { id: "ES", what: "t1 is led by n1 and by n2".to_owned() };
        let path = "one\ntwo\n".to_owned();
        let shown = report(Verdict::Violated {
            broken,
            depth: 7,
            is_nearest: true,
            path,
            trace: String::new(),
        })
        .to_string();
        let head: Vec<&str> = shown.lines().take(5).collect();
        assert_eq!(head[0], "violated   ES at depth 7: t1 is led by n1 and by n2");
        assert!(head[1].starts_with("meaning    a term has at most one leader"), "{shown}");
        assert_eq!(head[2..4], ["  one", "  two"]);
        let command = "reproduce  cargo run --release -p raft-sim -- explore --nodes 3 --terms 2 \
                       --entries 1 --crashes 1 # raft-sim ";
        assert!(head[4].starts_with(command), "{shown}");
        assert!(shown.contains("\nstates     4\n"), "{shown}");
    }

    #[test]
    fn every_invariant_has_a_meaning() {
        let mut meanings = BTreeSet::new();
        for id in ["PS", "MT", "ES", "LC", "CI", "CQ", "SM", "LIN", "LZ", "CF", "LM", "PANIC"] {
            meanings.insert(Broken { id, what: String::new() }.meaning());
        }
        assert_eq!(meanings.len(), 12, "each has its own");
    }

    #[test]
    fn unusual_bounds_are_arguments() {
        let bounds = Bounds { reads: 1, pre_vote: true, symmetry: false, ..Bounds::default() };
        let expected =
            " --nodes 3 --terms 2 --entries 1 --crashes 1 --reads 1 --pre-vote --no-symmetry";
        assert_eq!(arguments(&bounds, None), expected);
        let any = Bounds { heartbeats: ANY_NUMBER, ..Bounds::default() };
        assert!(arguments(&any, None).ends_with(" --heartbeats any"));
        let expected =
            " --from a/story.txt --terms 2 --entries 1 --crashes 1 --reads 1 --no-symmetry";
        assert_eq!(arguments(&bounds, Some("a/story.txt")), expected);
    }

    /// What a script has spent is not asked for when it is explored again.
    #[test]
    fn the_command_from_a_script_asks_for_what_was_asked() {
        let script = "> cluster 1 2 pre_vote=off check_quorum=off\n> fire 1\n> deliver\n\
                      > propose 1\n> read 1\n> crash 2\n\
                      > reach a client's command is committed\n";
        let asked = Bounds { terms: 1, entries: 1, crashes: 0, ..Bounds::default() };
        let stop = AtomicBool::new(false);
        let explored = run_from("a/story.txt", script, &asked, 1, &stop, |_| ());
        let report = explored.expect("it is a script");
        assert_eq!((report.bounds.entries, report.bounds.crashes, report.bounds.reads), (2, 1, 1));
        let arguments = " --from a/story.txt --terms 1 --entries 1 --crashes 0";
        assert!(report.to_string().contains(&format!("\nbounds    {arguments}\n")), "{report}");
        let command = report.reproduce();
        assert!(command.contains(&format!(" -- explore{arguments} # raft-sim ")), "{command}");
    }
}
