//! The table in `EXPLORED.md`.

use std::fmt::Write;

use super::list::{Figures, List, Row};

const HEAD: &str = "\
| `raft-sim explore` | states | transitions | depth | CPU s | MiB | landmarks | code |
|---|---:|---:|---:|---:|---:|---:|---|
";

/// Where scripts are, and how the table says so.
const SCRIPTS: (&str, &str) = ("raft-sim/tests/scripts/", "S/");

/// The page with the table of these rows in the place of its own.
///
/// # Errors
/// It has none.
pub(super) fn with_table(page: &str, list: &List) -> Result<String, String> {
    let start = page.find(HEAD).ok_or("EXPLORED.md has no table of this kind")?;
    let (before, from) = page.split_at(start);
    let after = from.find("\n\n").map_or("", |end| &from[end + 1..]);
    Ok(format!("{before}{}{after}", table(list)))
}

fn table(list: &List) -> String {
    let mut table = HEAD.to_owned();
    for Row { explore, found, cpu_ms, mib, code } in &list.rows {
        let Figures { states, transitions, depth, landmarks } = *found;
        let explore = explore.replace(SCRIPTS.0, SCRIPTS.1);
        let (states, transitions) = (grouped(states), grouped(transitions));
        let tenths = cpu_ms.div_ceil(100);
        let cpu = format!("{}.{}", tenths / 10, tenths % 10);
        writeln!(
            table,
            "| `{explore}` | {states} | {transitions} | {depth} | {cpu} | {mib} | {landmarks} | {code} |"
        )
        .expect("a text takes everything");
    }
    table
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::row;
    use super::*;

    #[test]
    fn the_table_takes_the_place_of_the_one_that_was_there() {
        let list = List { rows: vec![row("--from raft-sim/tests/scripts/a.txt", 999, 1_234)] };
        let line = "| `--from S/a.txt` | 999 | 1,234,567 | 3 | 1.3 | 5 | 4 | c0de |\n";
        let page = format!("# A page\n\n{HEAD}| old |\n\nMore.\n");
        let expected = format!("# A page\n\n{HEAD}{line}\nMore.\n");
        assert_eq!(with_table(&page, &list).as_deref(), Ok(expected.as_str()));
        assert_eq!(with_table(&expected, &list), Ok(expected), "it is its own memory");
        assert!(with_table("# A page\n", &list).is_err());
    }
}
