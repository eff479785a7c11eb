//! A process that works for the matrix, or for what was explored: what it says, line by line, how it ends, what it costs.
//!
//! A mutant may do anything: loop, eat memory, say nothing. So whoever is silent for too long is
//! killed, memory is limited where a shell can do that, and an interrupt is heard at any time.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

/// How often an interrupt is looked for while nothing is said.
const LOOK: Duration = Duration::from_millis(200);
/// Of standard error, so many lines are kept: the last ones say what went wrong.
const STDERR_LINES: usize = 40;
/// The address space of a mutant, in KiB.
const MEMORY_KIB: u64 = 6 << 20;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With an exit code.
    Code(i32),
    /// By a signal that was not ours.
    Signal,
    /// It was killed: it had said what matters.
    Enough,
    /// It was killed: it had said nothing for too long.
    Silent,
    /// It was killed: somebody has pressed Ctrl-C.
    Interrupted,
}

/// A process that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) end: End,
    pub(crate) stdout: Vec<String>,
    /// The last lines.
    pub(crate) stderr: VecDeque<String>,
    /// Its processor time in milliseconds, where the system tells.
    pub(crate) cpu_ms: Option<u64>,
}

enum Line {
    Stdout(String),
    Stderr(String),
}

/// A command whose process cannot take all memory of the machine.
pub(super) fn limited(program: &str) -> Command {
    if !cfg!(unix) {
        return Command::new(program);
    }
    let mut command = Command::new("sh");
    let script = format!("ulimit -v {MEMORY_KIB} 2>/dev/null; exec \"$0\" \"$@\"");
    command.args(["-c", &script, program]);
    command
}

/// Runs a command to its end. It is killed once `is_enough` holds for a line of its standard output,
/// once it has been silent for `patience`, or once `stop` is set.
pub(crate) fn run(
    command: &mut Command,
    patience: Duration,
    stop: &AtomicBool,
    is_enough: impl Fn(&str) -> bool,
) -> Result<Ended, String> {
    let started =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = started.map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut ended =
        Ended { end: End::Signal, stdout: Vec::new(), stderr: VecDeque::new(), cpu_ms: None };
    let killed = std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let other = sender.clone();
        scope.spawn(move || read(stdout, Line::Stdout, &sender));
        scope.spawn(move || read(stderr, Line::Stderr, &other));
        let (mut killed, mut silent) = (None, Duration::ZERO);
        loop {
            match receiver.recv_timeout(LOOK) {
                Ok(line) => {
                    silent = Duration::ZERO;
                    let enough = matches!(&line, Line::Stdout(line) if is_enough(line));
                    ended.take(line);
                    if enough && killed.is_none() {
                        killed = Some(kill(&mut child, End::Enough));
                    }
                }
                Err(RecvTimeoutError::Timeout) => silent += LOOK,
                Err(RecvTimeoutError::Disconnected) => return killed,
            }
            if killed.is_none() && stop.load(Ordering::Relaxed) {
                killed = Some(kill(&mut child, End::Interrupted));
            } else if killed.is_none() && silent >= patience {
                killed = Some(kill(&mut child, End::Silent));
            }
        }
    });
    // Before the process is waited for: afterwards the system has forgotten what it cost.
    ended.cpu_ms = cpu_ms(child.id());
    let status = child.wait().map_err(|error| format!("cannot wait for {command:?}: {error}"))?;
    ended.end = killed.or(status.code().map(End::Code)).unwrap_or(End::Signal);
    Ok(ended)
}

impl Ended {
    fn take(&mut self, line: Line) {
        match line {
            Line::Stdout(line) => self.stdout.push(line),
            Line::Stderr(line) => {
                self.stderr.push_back(line);
                if self.stderr.len() > STDERR_LINES {
                    self.stderr.pop_front();
                }
            }
        }
    }
}

/// It may have ended by itself meanwhile, which is as good.
fn kill(child: &mut Child, why: End) -> End {
    drop(child.kill());
    why
}

fn read(pipe: Option<impl Read>, line: impl Fn(String) -> Line, sender: &Sender<Line>) {
    let Some(pipe) = pipe else { return };
    let mut reader = BufReader::new(pipe);
    let mut bytes = Vec::new();
    // A mutant may write anything, also what is no text.
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        bytes.clear();
        if sender.send(line(text)).is_err() {
            return;
        }
    }
}

/// The processor time of a process that runs, or that has ended and was not waited for, from
/// Linux's `/proc`; its clock ticks a hundred times in a second.
fn cpu_ms(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    ticks(&stat).map(|ticks| ticks * 10)
}

/// User and system time: the 14th and 15th field, the 2nd of which is a name in parentheses that may
/// contain anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticks_stand_after_the_name_whatever_that_is() {
        let stat = "42 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20";
        assert_eq!(ticks(stat), Some(150));
        assert_eq!(ticks("42 (a) R 1 2"), None);
    }

    #[cfg(unix)]
    mod unix {
        use super::*;

        const PATIENCE: Duration = Duration::from_secs(60);

        fn shell(script: &str, patience: Duration, stop: bool) -> Ended {
            let mut command = limited("sh");
            let stop = AtomicBool::new(stop);
            run(command.args(["-c", script]), patience, &stop, |line| line == "enough")
                .expect("there is a shell")
        }

        #[test]
        fn a_process_ends_with_its_lines_and_its_code() {
            let ended = shell("echo one; echo two; echo three >&2; exit 7", PATIENCE, false);
            assert_eq!(ended.end, End::Code(7));
            assert_eq!(ended.stdout, ["one", "two"]);
            assert_eq!(ended.stderr, ["three"]);
        }

        #[test]
        fn a_process_that_has_said_enough_is_killed() {
            let ended = shell("echo enough; exec cat /dev/zero > /dev/null", PATIENCE, false);
            assert_eq!((ended.end, ended.stdout.as_slice()), (End::Enough, &["enough".into()][..]));
        }

        #[test]
        fn a_process_that_says_nothing_is_killed() {
            let ended = shell("exec cat /dev/zero > /dev/null", LOOK, false);
            assert_eq!(ended.end, End::Silent);
        }

        #[test]
        fn an_interrupt_is_heard_while_nothing_is_said() {
            let ended = shell("exec cat /dev/zero > /dev/null", PATIENCE, true);
            assert_eq!(ended.end, End::Interrupted);
        }

        #[cfg(target_os = "linux")]
        #[test]
        fn memory_has_an_end() {
            let ended = shell("ulimit -v", PATIENCE, false);
            assert_eq!(ended.stdout, [MEMORY_KIB.to_string()]);
        }
    }
}
