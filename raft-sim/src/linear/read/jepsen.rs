//! The log of a Jepsen test of one register.
//!
//! ```text
//! INFO  jepsen.util - 3 :invoke :cas [1 2]
//! INFO  jepsen.util - 3 :fail :cas [1 2]
//! INFO  jepsen.util - 4 :info :write :timed-out
//! ```
//!
//! Other lines of such a log are passed over. A `cas` that fails has found another value; a read that
//! fails has found nothing out.

use super::{Malformed, lines};
use crate::linear::history::{ABSENT, Ask, Builder, History, Model, Told, Value};

const SOURCE: &str = "jepsen.util - ";

pub(super) fn read(text: &str) -> Result<History, Malformed> {
    let mut builder = Builder::new(Model::Register);
    let key = builder.key("");
    let mut events = 0_u64;
    for (line, text) in lines(text) {
        let Some((_, event)) = text.split_once(SOURCE) else { continue };
        let Some((process, rest)) = event.split_once([' ', '\t']) else { continue };
        // The nemesis has no number.
        if process.is_empty() || !process.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        events += 1;
        apply(&mut builder, key, process, rest).map_err(|reason| Malformed { line, reason })?;
    }
    if events == 0 {
        let reason = "this is neither a history in JSON lines nor the log of a Jepsen test";
        return Err(Malformed { line: 1, reason: reason.to_owned() });
    }
    Ok(builder.finish())
}

fn apply(builder: &mut Builder, key: u32, process: &str, rest: &str) -> Result<(), String> {
    let Some((kind, f, what)) = three(rest) else {
        return Err("an event has a process, a type, a function and a value".to_owned());
    };
    let process = builder.process(process);
    if kind == ":invoke" {
        let ask = ask(builder, f, what)?;
        return builder.invoke(process, key, ask).map_err(|misfit| misfit.to_string());
    }
    let (_, asked) = builder.asked(process).ok_or("the process has nothing to end")?;
    let is_f = match asked {
        Ask::Read => f == ":read",
        Ask::Write(_) => f == ":write",
        Ask::Swap { .. } => f == ":cas",
        Ask::Append(_) => false,
    };
    if !is_f {
        return Err(format!("the operation did not begin as {f}"));
    }
    let is_value = what != ":timed-out";
    let told = match (kind, asked) {
        (":ok", Ask::Read) => Told::Found(value(builder, what)),
        (":ok", Ask::Write(_) | Ask::Swap { .. }) if ask(builder, f, what)? == asked => Told::Done,
        (":ok", _) => return Err("the operation began with another value".to_owned()),
        (":fail", Ask::Swap { .. }) if is_value => Told::Mismatch,
        (":fail", _) => Told::Failed,
        (":info", _) => Told::Unknown,
        (other, _) => return Err(format!("the type {other} is none")),
    };
    builder.complete(process, told).map_err(|misfit| misfit.to_string())
}

/// Two words, and what follows them: some logs have tabs in between, some have spaces.
fn three(text: &str) -> Option<(&str, &str, &str)> {
    let (first, rest) = text.trim_ascii().split_once([' ', '\t'])?;
    let (second, rest) = rest.trim_ascii_start().split_once([' ', '\t'])?;
    Some((first, second, rest.trim_ascii()))
}

fn ask(builder: &mut Builder, f: &str, what: &str) -> Result<Ask, String> {
    match f {
        ":read" => Ok(Ask::Read),
        ":write" => Ok(Ask::Write(value(builder, what))),
        ":cas" => {
            let pair = what.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let pair = pair.and_then(|pair| pair.split_once(' '));
            let (from, to) = pair.ok_or("the value of a cas is a pair")?;
            Ok(Ask::Swap { from: value(builder, from), to: value(builder, to.trim_ascii()) })
        }
        other => Err(format!("the function {other} is none")),
    }
}

fn value(builder: &mut Builder, text: &str) -> Value {
    if text == "nil" { ABSENT } else { builder.value(text) }
}
