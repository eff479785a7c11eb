//! Appends and recovery on a real disk; `benches::storage` tells how it is called and what it measures.

use std::process::ExitCode;

use benches::storage::{Measured, Plan, SHAPES, Shape, measure, recovery};

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for a terminal")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(plan) = Plan::parse(&arguments) else {
        eprintln!("usage: [--dir DIR] [--turns ODD] [--turn-ms MS] [--recover-mib MIB]");
        return ExitCode::FAILURE;
    };
    println!("batches per second, each made durable; bytes written for each entry");
    println!(
        "{:>7} {:>7} | {:>6} {:>6} {:>5} {:>7} {:>5} | {:>11} | {:>5} {:>7} | {:>9} {:>8}",
        "payload",
        "batch",
        "ours",
        "floor",
        "of it",
        "filling",
        "of it",
        "raft-engine",
        "bytes",
        "of load",
        "entries/s",
        "engine's"
    );
    for shape in SHAPES {
        println!("{}", row(&measure(&plan, shape)));
    }
    let recovered = recovery(&plan);
    println!(
        "\nrecovery of {} entries of 1 KiB in {} MiB of files; the process had {} MiB at its peak",
        recovered.entries,
        recovered.file_bytes >> 20,
        recovered.peak_kib.map_or("?".to_owned(), |kib| (kib >> 10).to_string()),
    );
    let cold = ("from the disk", recovered.cold_open, recovered.cold_read);
    let warm = ("from the page cache", recovered.open, recovered.read);
    for (whence, open, read) in [cold, warm] {
        let ratio = open.as_nanos() * 100 / read.as_nanos().max(1);
        let (open, read) = (open.as_millis(), read.as_millis());
        let (whole, part) = (ratio / 100, ratio % 100);
        println!("{whence}: {open} ms, to read the files {read} ms: {whole}.{part:02} times");
    }
    ExitCode::SUCCESS
}

fn row(measured: &Measured) -> String {
    let Measured { shape, batches_per_second, bytes_per_entry } = measured;
    let Shape { batch, payload_bytes } = *shape;
    let [ours, floor, filling, peer] = *batches_per_second;
    let number = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    let ratio = |part: Option<u64>, whole: Option<u64>| match (part, whole) {
        (Some(part), Some(whole)) if whole > 0 => {
            let percent = part * 100 / whole;
            format!("{}.{:02}", percent / 100, percent % 100)
        }
        _ => "-".to_owned(),
    };
    format!(
        "{payload_bytes:>7} {batch:>7} | {:>6} {:>6} {:>5} {:>7} {:>5} | {:>11} | {:>5} {:>7} | {:>9} {:>8}",
        number(ours),
        number(floor),
        ratio(ours, floor),
        number(filling),
        ratio(ours, filling),
        number(peer),
        number(bytes_per_entry[0]),
        ratio(bytes_per_entry[0], Some(payload_bytes as u64)),
        number(ours.map(|rate| rate * batch as u64)),
        number(bytes_per_entry[1]),
    )
}
