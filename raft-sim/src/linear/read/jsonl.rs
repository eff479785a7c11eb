//! JSON lines: a header, then one event a line, in the order of real time.
//!
//! ```text
//! {"format":"jepsen-jsonl/1","model":"kv-cas","init":null}
//! {"index":0,"process":3,"type":"invoke","f":"cas","key":"x","value":[1,2]}
//! {"index":1,"process":3,"type":"fail","f":"cas","key":"x","value":[1,2],"error":"mismatch"}
//! ```
//!
//! Models: `kv-cas` (`read`, `write`, `cas`, `delete`) and `kv-append` (`read`, `append`). An event is
//! an `invoke`, and then one of `ok`, `fail` (nothing was done, unless the error of a `cas` is
//! `mismatch`: then another value was there) and `info` (nobody knows). What has no end is an `info`.
//! Other members are not looked at.

use serde_json::Value as Json;

use super::scan::{Item, Scan};
use super::{Malformed, lines};
use crate::linear::history::{ABSENT, Ask, Builder, History, Model, Told, Value};

const FORMAT: &str = "jepsen-jsonl/1";

pub(super) fn read(text: &str) -> Result<History, Malformed> {
    let mut lines = lines(text);
    let (line, head) = lines.next().expect("the file is not empty");
    let malformed = |line, reason| Malformed { line, reason };
    let model = header(head).map_err(|reason| malformed(line, reason))?;
    let mut builder = Builder::new(model);
    for (line, text) in lines {
        event(&mut builder, model, text).map_err(|reason| malformed(line, reason))?;
    }
    Ok(builder.finish())
}

fn header(text: &str) -> Result<Model, String> {
    let head: Json = serde_json::from_str(text).map_err(|error| no_json(&error))?;
    let format = head.get("format").and_then(Json::as_str);
    if format != Some(FORMAT) {
        return Err(format!("the header has no \"format\":\"{FORMAT}\""));
    }
    let init = head.get("init").unwrap_or(&Json::Null);
    let (model, is_known) = match head.get("model").and_then(Json::as_str) {
        Some("kv-cas") => (Model::Register, init.is_null()),
        Some("kv-append") => (Model::Append, init.is_null() || init.as_str() == Some("")),
        Some(_) | None => return Err("the model is neither kv-cas nor kv-append".to_owned()),
    };
    if is_known { Ok(model) } else { Err(format!("a history cannot begin with {init}")) }
}

fn no_json(error: &serde_json::Error) -> String {
    // The line that it names is one of this text, which has one line.
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    format!("this is no JSON object: {what} (column {})", error.column())
}

/// The members that are looked at in an event.
const MEMBERS: [&str; 6] = ["process", "type", "f", "key", "value", "error"];

/// What they are.
#[derive(Clone, Copy, Debug, Default)]
struct Fields<'a> {
    process: Option<&'a str>,
    kind: Option<&'a str>,
    f: Option<&'a str>,
    key: Option<&'a str>,
    value: Option<Item<'a>>,
    error: Option<&'a str>,
}

fn event(builder: &mut Builder, model: Model, text: &str) -> Result<(), String> {
    if let Some(fields) = Scan::new(text).and_then(fields) {
        return apply(builder, model, &fields);
    }
    let mut json: Json = serde_json::from_str(text).map_err(|error| no_json(&error))?;
    let members = json.as_object_mut().ok_or("an event is a JSON object")?;
    members.retain(|name, _| MEMBERS.contains(&name.as_str()));
    let text = json.to_string();
    let fields = Scan::of_canonical(&text).and_then(fields);
    let fields = fields.ok_or("an event has strings, numbers, and pairs of them")?;
    apply(builder, model, &fields)
}

fn fields(mut scan: Scan<'_>) -> Option<Fields<'_>> {
    let mut fields = Fields::default();
    while let Some((name, item)) = scan.member()? {
        let plain = match item {
            Item::Plain(text) => Some(text),
            Item::Null | Item::Pair(..) => None,
        };
        match name {
            "process" => fields.process = plain,
            "type" => fields.kind = plain,
            "f" => fields.f = plain,
            "key" => fields.key = plain,
            "value" => fields.value = Some(item),
            "error" => fields.error = plain,
            _ => {}
        }
    }
    Some(fields)
}

fn apply(builder: &mut Builder, model: Model, fields: &Fields<'_>) -> Result<(), String> {
    let process = fields.process.ok_or("the event has no process")?;
    let process = builder.process(bare(process));
    let f = fields.f.ok_or("the event has no f")?;
    let key = fields.key.map(|key| builder.key(bare(key)));
    let is_invoke = fields.kind == Some("\"invoke\"");
    let item = fields.value.unwrap_or(Item::Null);
    if is_invoke {
        let ask = ask(builder, model, f, item)?;
        let key = key.unwrap_or_else(|| builder.key(""));
        return builder.invoke(process, key, ask).map_err(|misfit| misfit.to_string());
    }
    let (asked_key, asked) = builder.asked(process).ok_or("the process has nothing to end")?;
    if key.is_some_and(|key| key != asked_key) {
        return Err("the operation began with another key".to_owned());
    }
    let is_read = matches!(asked, Ask::Read);
    if is_read != (f == "\"read\"") {
        return Err(format!("the operation did not begin as {f}"));
    }
    let told = match fields.kind {
        Some("\"ok\"") if is_read => Told::Found(value(builder, model, item)?),
        Some("\"ok\"") if ask(builder, model, f, item)? == asked => Told::Done,
        Some("\"ok\"") => return Err("the operation began with another f or value".to_owned()),
        Some("\"fail\"") if fields.error == Some("\"mismatch\"") => Told::Mismatch,
        Some("\"fail\"") => Told::Failed,
        Some("\"info\"") => Told::Unknown,
        Some(other) => return Err(format!("the type {other} is none")),
        None => return Err("the event has no type".to_owned()),
    };
    builder.complete(process, told).map_err(|misfit| misfit.to_string())
}

fn ask(builder: &mut Builder, model: Model, f: &str, item: Item<'_>) -> Result<Ask, String> {
    match (f, item) {
        ("\"read\"", _) => Ok(Ask::Read),
        ("\"delete\"", _) => Ok(Ask::Write(ABSENT)),
        ("\"write\"", item) => Ok(Ask::Write(value(builder, model, item)?)),
        ("\"append\"", Item::Plain(_)) => Ok(Ask::Append(value(builder, model, item)?)),
        ("\"append\"", Item::Null | Item::Pair(..)) => {
            Err("the value of an append is a string".to_owned())
        }
        ("\"cas\"", Item::Pair(from, to)) => {
            let mut one = |item: Option<&str>| item.map_or(ABSENT, |text| builder.value(text));
            Ok(Ask::Swap { from: one(from), to: one(to) })
        }
        ("\"cas\"", Item::Null | Item::Plain(_)) => Err("the value of a cas is a pair".to_owned()),
        (other, _) => Err(format!("the f {other} is none")),
    }
}

fn value(builder: &mut Builder, model: Model, item: Item<'_>) -> Result<Value, String> {
    match (item, model) {
        (Item::Null, _) => Ok(ABSENT),
        (Item::Plain(text), Model::Register) => Ok(builder.value(text)),
        (Item::Plain(text), Model::Append) => {
            let text: String = serde_json::from_str(text)
                .map_err(|_| "the values of this model are strings".to_owned())?;
            Ok(builder.value(&text))
        }
        (Item::Pair(..), _) => Err("the value is not one value".to_owned()),
    }
}

/// A string without its quotes.
fn bare(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}
