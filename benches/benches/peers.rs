//! Ours beside its peers; `benches::runner` tells how it is called, and `benches` what it measures.

use std::env;
use std::process::ExitCode;

use benches::Counting;
use benches::runner::{self, Request, USAGE};

#[global_allocator]
static COUNTING: Counting = Counting;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for a terminal")]
fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some(request) = Request::parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    match runner::run(&request) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
