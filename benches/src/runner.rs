//! The comparison: a process for each cell and peer, by turns, and one table at the end.
//!
//! A cell's process is this same program, so that a profiler can wrap it:
//!
//! ```text
//! peers cell ours w1-one/3x256/direct
//! ```

use std::process::Command;
use std::{env, fs, io};

use crate::cells::{Cell, Effort, Reading, SECTION};
use crate::counting::Memory;
use crate::peers::Peer;
use crate::table::{self, Metric, Row};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Measure one cell in this process and print the reading.
    Cell {
        /// The peer's name.
        peer: String,
        /// The cell's name.
        cell: String,
        /// How thoroughly.
        effort: Effort,
    },
    /// Compare.
    Table {
        /// How often every cell is measured.
        rounds: u32,
        /// Instructions instead of time.
        is_counting: bool,
        /// Only the cells whose name contains this.
        only: String,
    },
}

/// How the program is called.
pub const USAGE: &str = "\
usage: peers [--quick] [--callgrind] [PART-OF-A-CELL'S-NAME]
       peers cell PEER CELL [--count]
--quick      every cell once, instead of three times
--callgrind  count instructions (needs valgrind) instead of time";

impl Request {
    /// Reads the arguments, without the program's name. `None`: they make no sense.
    #[must_use]
    pub fn parse(arguments: &[String]) -> Option<Self> {
        // Cargo says this to every bench.
        let words: Vec<&str> =
            arguments.iter().map(String::as_str).filter(|word| *word != "--bench").collect();
        if let ["cell", peer, cell, rest @ ..] = words.as_slice() {
            let effort = match rest {
                [] => Effort::Time,
                ["--count"] => Effort::Count,
                [..] => return None,
            };
            return Some(Self::Cell { peer: (*peer).to_owned(), cell: (*cell).to_owned(), effort });
        }
        let (mut rounds, mut is_counting, mut only) = (3, false, String::new());
        for word in words {
            match word {
                "--quick" => rounds = 1,
                "--callgrind" => is_counting = true,
                part if !part.starts_with('-') && only.is_empty() => part.clone_into(&mut only),
                _ => return None,
            }
        }
        Some(Self::Table { rounds, is_counting, only })
    }
}

/// Does what is asked, and gives what is to be printed.
///
/// # Errors
/// A process that cannot be started, or a sentence about what went wrong in it.
pub fn run(request: &Request) -> io::Result<String> {
    match request {
        Request::Cell { peer, cell, effort } => {
            let peer = Peer::all().into_iter().find(|known| known.name == peer);
            let cell = Cell::all().into_iter().find(|known| known.name() == *cell);
            let (Some(peer), Some(cell)) = (peer, cell) else {
                return Err(io::Error::other("no such peer or cell"));
            };
            Ok(print((peer.run)(&cell, *effort)))
        }
        Request::Table { rounds, is_counting, only } => compare(*rounds, *is_counting, only),
    }
}

fn compare(rounds: u32, is_counting: bool, only: &str) -> io::Result<String> {
    let peers = Peer::all();
    let is_wanted = |cell: &Cell| {
        let is_memory = Metric::of(cell) == [Metric::Bytes];
        cell.name().contains(only) && !(is_counting && is_memory)
    };
    let cells: Vec<Cell> = Cell::all().into_iter().filter(is_wanted).collect();
    let mut best: Vec<Vec<Option<Reading>>> = vec![vec![None; peers.len()]; cells.len()];
    let rounds = if is_counting { 1 } else { rounds };
    let before = load();
    for _ in 0..rounds {
        for (cell, readings) in cells.iter().zip(&mut best) {
            for (peer, reading) in peers.iter().zip(readings) {
                let new = if is_counting { count(cell, peer)? } else { time(cell, peer)? };
                let is_better = reading.is_none_or(|old| new.work < old.work);
                if is_better {
                    *reading = Some(new);
                }
            }
        }
    }
    let rows: Vec<Row> =
        cells.iter().zip(&best).flat_map(|(cell, best)| rows(cell, best, is_counting)).collect();
    let names: Vec<&str> = peers.iter().map(|peer| peer.name).collect();
    let table = table::render(&names, &rows);
    Ok(format!("{table}\nload before: {before}\nload after:  {}\n", load()))
}

fn rows(cell: &Cell, readings: &[Option<Reading>], is_counting: bool) -> Vec<Row> {
    let metrics = Metric::of(cell).iter();
    // What is counted in so short a run holds more of the beginning than of the rest.
    let metrics = metrics.filter(|metric| !is_counting || **metric == Metric::Work);
    let row = |metric: &Metric| Row {
        label: cell.name(),
        unit: match (*metric, is_counting) {
            (Metric::Work, false) => "ns",
            (Metric::Work, true) => "instructions",
            (Metric::Allocations, _) => "allocations",
            (Metric::Bytes, _) => "bytes",
        },
        thousandths: readings
            .iter()
            .map(|reading| reading.as_ref().map(|reading| metric.thousandths(reading)))
            .collect(),
    };
    metrics.map(row).collect()
}

/// Has the allocator of the GNU system keep what is freed, as in a process that has been at work for long.
/// By its rules it is a matter of luck who gives the top of the heap back at each compaction, and
/// pays for page faults afterwards.
const KEEP_MEMORY: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.trim_threshold=4294967296:glibc.malloc.mmap_threshold=4294967296",
);

fn time(cell: &Cell, peer: &Peer) -> io::Result<Reading> {
    let mut command = Command::new(env::current_exe()?);
    command.env(KEEP_MEMORY.0, KEEP_MEMORY.1);
    command.args(["cell", peer.name, &cell.name()]);
    finish(command, cell, peer).map(|(reading, _)| reading)
}

fn count(cell: &Cell, peer: &Peer) -> io::Result<Reading> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(format!("--toggle-collect={SECTION}"));
    command.arg(env::current_exe()?).args(["cell", peer.name, &cell.name(), "--count"]);
    let (reading, said) = finish(command, cell, peer)?;
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let instructions = collected.and_then(|(_, number)| number.trim().parse().ok());
    let work = instructions.ok_or_else(|| io::Error::other("callgrind has counted nothing"))?;
    Ok(Reading { work, ..reading })
}

/// Waits for a cell's process. Gives its reading, and what it said besides.
fn finish(mut command: Command, cell: &Cell, peer: &Peer) -> io::Result<(Reading, String)> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let reading = scan(&String::from_utf8_lossy(&output.stdout));
    match reading {
        Some(reading) if output.status.success() => Ok((reading, said)),
        Some(_) | None => {
            Err(io::Error::other(format!("{} cannot do {}:\n{said}", peer.name, cell.name())))
        }
    }
}

fn print(reading: Reading) -> String {
    let Memory { allocations, kept_bytes } = reading.memory;
    format!("{} {} {allocations} {kept_bytes}", reading.units, reading.work)
}

fn scan(line: &str) -> Option<Reading> {
    let numbers: Vec<u64> =
        line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let [units, work, allocations, kept_bytes] = numbers.try_into().ok()?;
    (units > 0).then_some(Reading { units, work, memory: Memory { allocations, kept_bytes } })
}

fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg");
    load.map_or_else(|_| "unknown".to_owned(), |load| load.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Request> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Request::parse(&arguments)
    }

    #[test]
    fn the_command_line_is_understood_or_refused() {
        let only = "w1".to_owned();
        let table = Request::Table { rounds: 1, is_counting: true, only };
        assert_eq!(parse("--quick --callgrind w1 --bench"), Some(table));
        let (peer, cell) = ("ours".to_owned(), "w5".to_owned());
        let one = Request::Cell { peer, cell, effort: Effort::Count };
        assert_eq!(parse("cell ours w5 --count"), Some(one));
        for wrong in ["--slow", "w1 w2", "cell ours w5 --twice"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_reading_survives_the_pipe() {
        let memory = Memory { allocations: 3, kept_bytes: 4 };
        let reading = Reading { units: 1, work: 2, memory };
        assert_eq!(scan(&print(reading)), Some(reading));
        assert_eq!(scan("0 1 2 3"), None, "nothing was measured");
        assert_eq!(scan("1 2 3"), None);
    }

    #[test]
    fn every_cell_has_a_name_of_its_own() {
        let mut names: Vec<String> = Cell::all().iter().map(Cell::name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
