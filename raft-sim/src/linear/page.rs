//! A page that shows a violation: a lane per process, the longest order as a thread through the
//! operations, the core in colour, and why. One file, no network, light and dark.
//!
//! Drawn here, not in the browser: the page can be read without scripts. The script only lets a
//! person click on an operation.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::core::Core;
use super::explain::{self, counted};
use super::history::{Action, History, Operation};

/// How many operations are drawn at most: those nearest to the core.
const DRAWN_MAX: usize = 600;

const LANE: usize = 44;
const BAR: usize = 26;
const LEFT: usize = 90;
const TOP: usize = 54;
const STEP: usize = 34;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What is drawn, and where.
struct Picture<'a> {
    history: &'a History,
    core: &'a Core,
    /// The operations, by place in the history.
    drawn: Vec<u32>,
    /// Events that are drawn, to columns.
    columns: BTreeMap<u32, usize>,
    /// Processes, to lanes.
    lanes: BTreeMap<u32, usize>,
    /// Place in the longest order, from one on.
    places: BTreeMap<u32, usize>,
    /// Operations of the key that are not drawn.
    left_out: usize,
}

/// The page for a violation in a history that was read from `name`.
#[must_use]
pub fn html(name: &str, history: &History, core: &Core) -> String {
    let picture = Picture::new(history, core);
    let name = escape(name);
    let sentence = escape(&explain::sentence(history, core));
    let mut page = String::new();
    page.push_str("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n");
    page.push_str("<meta name=\"color-scheme\" content=\"light dark\">\n");
    put(&mut page, format_args!("<title>{name}: not linearizable</title>\n"));
    put(&mut page, format_args!("<style>\n{STYLE}</style></head><body>\n"));
    put(&mut page, format_args!("<h1>Not linearizable</h1><p class=\"file\">{name}"));
    let key = history.key(core.key);
    if !key.is_empty() {
        put(&mut page, format_args!(", key <b>{}</b>", escape(key)));
    }
    put(&mut page, format_args!("</p>\n<p class=\"why\">{sentence}.</p>\n"));
    picture.core_list(&mut page);
    picture.legend(&mut page);
    picture.draw(&mut page);
    picture.order_list(&mut page);
    put(&mut page, format_args!("<script>\n{SCRIPT}</script></body></html>\n"));
    page
}

impl<'a> Picture<'a> {
    fn new(history: &'a History, core: &'a Core) -> Self {
        let all: Vec<u32> = (0..)
            .zip(&history.operations)
            .filter(|(_, operation)| operation.key == core.key)
            .map(|(number, _)| number)
            .collect();
        let total = all.len();
        let drawn = nearest(history, core, all);
        let mut columns = BTreeMap::new();
        let mut lanes = BTreeMap::new();
        for number in &drawn {
            let operation = &history.operations[*number as usize];
            columns.insert(operation.call, 0);
            columns.extend(operation.end.map(|end| (end, 0)));
            let lane = lanes.len();
            lanes.entry(operation.process).or_insert(lane);
        }
        for (column, (_, place)) in columns.iter_mut().enumerate() {
            *place = column;
        }
        let places = core.longest.iter().copied().zip(1..).collect();
        let left_out = total - drawn.len();
        Self { history, core, drawn, columns, lanes, places, left_out }
    }

    fn operation(&self, number: u32) -> &'a Operation {
        &self.history.operations[number as usize]
    }

    fn x(&self, event: u32) -> usize {
        LEFT + STEP * self.columns.get(&event).copied().unwrap_or(self.columns.len())
    }

    fn ends(&self, operation: &Operation) -> (usize, usize) {
        let end = operation.end.map_or(LEFT + STEP * self.columns.len(), |end| self.x(end));
        (self.x(operation.call), end.max(self.x(operation.call) + STEP / 2))
    }

    fn y(&self, operation: &Operation) -> usize {
        TOP + LANE * self.lanes.get(&operation.process).copied().unwrap_or_default()
    }

    fn core_list(&self, page: &mut String) {
        let all = if self.core.is_minimal { "Each of these is needed" } else { "The core" };
        put(
            page,
            format_args!(
                "<h2>The core</h2><p>{all}: if any one of these answers had not come, there would be \
                 an order. (An update without an answer may take effect at any time after it began, \
                 also more than once, or never.)</p><ol class=\"core\">\n"
            ),
        );
        for number in &self.core.operations {
            let operation = self.operation(*number);
            let what = escape(&explain::describe(self.history, operation));
            let (call, end) = (operation.call, end_text(operation));
            put(
                page,
                format_args!(
                    "<li><a href=\"#o{number}\" data-op=\"{number}\">{what}</a> \
                     <span class=\"at\">events {call} to {end}</span></li>\n"
                ),
            );
        }
        page.push_str("</ol>\n");
    }

    fn legend(&self, page: &mut String) {
        page.push_str(
            "<p class=\"legend\"><span class=\"key core\"></span> core \
             <span class=\"key stuck\"></span> fits nowhere behind the longest order \
             <span class=\"key look\"></span> looks <span class=\"key update\"></span> changes \
             <span class=\"key open\"></span> outcome unknown; the thread is the longest order that \
             was found, with the place of each operation in it</p>\n",
        );
        if self.left_out > 0 {
            let farther = counted(self.left_out, "operation");
            put(page, format_args!("<p>Not drawn: {farther} farther away.</p>"));
        }
        page.push_str("<p id=\"told\" aria-live=\"polite\">Click on an operation.</p>\n");
    }

    fn draw(&self, page: &mut String) {
        let width = LEFT + STEP * (self.columns.len() + 1);
        let height = TOP + LANE * self.lanes.len() + 10;
        put(
            page,
            format_args!(
                "<div class=\"scroll\" tabindex=\"0\"><svg width=\"{width}\" height=\"{height}\" \
                 role=\"img\" aria-label=\"Operations over time\">\n"
            ),
        );
        for (process, lane) in &self.lanes {
            let name = self.history.process(*process);
            let y = TOP + LANE * lane + BAR / 2;
            let name = escape(name);
            put(
                page,
                format_args!(
                    "<line class=\"lane\" x1=\"0\" x2=\"{width}\" y1=\"{y}\" y2=\"{y}\"/>"
                ),
            );
            let y = y + 5;
            put(
                page,
                format_args!("<text class=\"name\" x=\"8\" y=\"{y}\">process {name}</text>\n"),
            );
        }
        for number in &self.drawn {
            self.bar(page, *number);
        }
        self.thread(page);
        page.push_str("</svg></div>\n");
    }

    fn bar(&self, page: &mut String, number: u32) {
        let operation = self.operation(number);
        let ((x, end), y) = (self.ends(operation), self.y(operation));
        let width = end - x;
        let mut class = if operation.action.is_update() { "update" } else { "look" }.to_owned();
        for (is, name) in [
            (operation.end.is_none(), " open"),
            (self.core.operations.contains(&number), " core"),
            (self.core.stuck == number, " stuck"),
        ] {
            class.push_str(if is { name } else { "" });
        }
        let what = escape(&explain::describe(self.history, operation));
        let place = match self.places.get(&number) {
            Some(place) => format!("number {place} of the longest order"),
            None => "not in the longest order".to_owned(),
        };
        let (call, until) = (operation.call, end_text(operation));
        let label = escape(&short(self.history, operation));
        let (text_x, text_y) = (x + 6, y + 18);
        put(
            page,
            format_args!(
                "<g id=\"o{number}\" class=\"op {class}\" tabindex=\"0\"><title>{what}, events {call} \
                 to {until}, {place}</title><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" \
                 height=\"{BAR}\" rx=\"5\"/><text x=\"{text_x}\" y=\"{text_y}\">{label}</text></g>\n"
            ),
        );
    }

    /// The longest order: each operation takes effect as soon as it can.
    fn thread(&self, page: &mut String) {
        let mut points = String::new();
        let mut dots = String::new();
        let mut at = LEFT;
        for number in &self.core.longest {
            if self.drawn.binary_search(number).is_err() {
                continue;
            }
            let operation = self.operation(*number);
            let (begin, end) = self.ends(operation);
            at = (at + 5).max(begin + 4).min(end.max(at));
            let (y, place) = (self.y(operation) + BAR, self.places[number]);
            put(&mut points, format_args!("{at},{y} "));
            let text_y = y + 11;
            put(
                &mut dots,
                format_args!(
                    "<circle class=\"dot\" cx=\"{at}\" cy=\"{y}\" r=\"3\"/><text class=\"place\" \
                     x=\"{at}\" y=\"{text_y}\">{place}</text>"
                ),
            );
        }
        put(page, format_args!("<polyline class=\"thread\" points=\"{points}\"/>\n{dots}\n"));
    }

    fn order_list(&self, page: &mut String) {
        let stuck = escape(&explain::describe(self.history, self.operation(self.core.stuck)));
        let count = counted(self.core.longest.len(), "operation");
        put(
            page,
            format_args!(
                "<h2>The longest order</h2><p>{count}; {stuck} fits nowhere behind \
                 it.</p><details><summary>All of them</summary><ol>\n"
            ),
        );
        for number in &self.core.longest {
            let what = escape(&explain::describe(self.history, self.operation(*number)));
            put(page, format_args!("<li>{what}</li>\n"));
        }
        page.push_str("</ol></details>\n");
    }
}

/// The operations that are drawn: all, or those of the core and around it.
fn nearest(history: &History, core: &Core, all: Vec<u32>) -> Vec<u32> {
    if all.len() <= DRAWN_MAX {
        return all;
    }
    let needed = core.operations.iter().chain([&core.stuck]);
    let calls = |number: &u32| history.operations[*number as usize].call;
    let latest = needed.clone().map(calls).max().unwrap_or_default();
    let mut drawn: Vec<u32> = needed.copied().collect();
    let from = all.partition_point(|number| calls(number) <= latest);
    let from = from.saturating_sub(DRAWN_MAX / 2);
    drawn.extend(all.into_iter().skip(from).take(DRAWN_MAX));
    drawn.sort_unstable();
    drawn.dedup();
    drawn
}

fn end_text(operation: &Operation) -> String {
    operation.end.map_or("the end".to_owned(), |end| end.to_string())
}

fn short(history: &History, operation: &Operation) -> String {
    let value = |value| {
        let text = history.value(value);
        let count = text.chars().count();
        if count > 9 {
            format!("\u{2026}{}", text.chars().skip(count - 8).collect::<String>())
        } else {
            text.to_owned()
        }
    };
    match operation.action {
        Action::Read(found) => format!("r {}", value(found)),
        Action::Write(super::ABSENT) => "del".to_owned(),
        Action::Write(written) => format!("w {}", value(written)),
        Action::Swap { from, to } => format!("{}\u{2192}{}", value(from), value(to)),
        Action::Differs(expected) => format!("\u{2260} {}", value(expected)),
        Action::Append(added) => format!("+ {}", value(added)),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a string takes all");
}
