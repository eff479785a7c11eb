//! The configurations that a search has met, by position, and how it came to each.
//!
//! Which of them covers which is found out when one is about to be tried, not when it is met: what is
//! under way at its position is known then.

use super::config::{Config, Cursor};
use super::program::NONE;

/// A configuration that was met.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<const W: usize> {
    pub(super) config: Config<W>,
    pub(super) at: u32,
    /// Another one at the same position.
    next: u32,
    /// Where it came from, and by which moves.
    parent: u32,
    moves: u32,
    state: Trial,
}

/// Whether it was tried to go on from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    Open,
    Done,
    /// Another one covers it.
    Needless,
}

/// A move: an operation takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    /// [`SPARE`]: any update without a slot.
    pub(super) op: u32,
    /// In the gap, not at the end.
    pub(super) in_gap: bool,
}

/// Any update that has no slot.
pub(super) const SPARE: u32 = (1 << 30) - 1;

const IN_GAP: u32 = 1 << 31;
const LAST: u32 = 1 << 30;

/// All nodes.
#[derive(Clone, Debug)]
pub(super) struct Tree<const W: usize> {
    nodes: Vec<Node<W>>,
    moves: Vec<u32>,
    /// By position: the newest node there.
    heads: Vec<u32>,
    /// Nodes from which nothing was tried, those that look best last.
    open: Vec<u32>,
    /// No position before this one has open nodes.
    lowest: u32,
    /// The last position that was reached.
    pub(super) furthest: u32,
}

impl<const W: usize> Tree<W> {
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            moves: Vec::new(),
            heads: Vec::new(),
            open: Vec::new(),
            lowest: 0,
            furthest: 0,
        }
    }

    pub(super) fn reset(&mut self, positions: usize) {
        self.nodes.clear();
        self.moves.clear();
        self.heads.clear();
        self.heads.resize(positions + 1, NONE);
        self.open.clear();
        self.lowest = 0;
        self.furthest = 0;
    }

    /// How many bytes it holds, about.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.len() * (size_of::<Node<W>>() + 4) + (self.moves.len() + self.heads.len()) * 4
    }

    /// Adds a configuration that some moves lead to from another node, and returns its number.
    pub(super) fn add(
        &mut self,
        config: Config<W>,
        at: u32,
        parent: u32,
        moves: impl Iterator<Item = Move>,
    ) -> u32 {
        let number = length(&self.nodes);
        let first = length(&self.moves);
        self.moves.extend(moves.map(|step| step.op | if step.in_gap { IN_GAP } else { 0 }));
        if let Some(last) = self.moves[first as usize..].last_mut() {
            *last |= LAST;
        }
        let next = std::mem::replace(&mut self.heads[at as usize], number);
        self.nodes.push(Node { config, at, next, parent, moves: first, state: Trial::Open });
        self.open.push(number);
        self.furthest = self.furthest.max(at);
        number
    }

    /// How many nodes were added and not taken; [`Self::prefer_first`] from here on.
    pub(super) fn mark(&self) -> usize {
        self.open.len()
    }

    /// Of the nodes added since the mark, the first is taken first.
    pub(super) fn prefer_first(&mut self, mark: usize) {
        self.open[mark..].reverse();
    }

    /// An open node: the one that looks best.
    pub(super) fn best(&mut self) -> Option<u32> {
        loop {
            let number = self.open.pop()?;
            if self.nodes[number as usize].state == Trial::Open {
                return Some(number);
            }
        }
    }

    /// An open node of the first position that has any: all that can be known of what covers it is.
    pub(super) fn first(&mut self) -> Option<u32> {
        while let Some(head) = self.heads.get(self.lowest as usize) {
            let mut number = *head;
            while number != NONE {
                let node = &self.nodes[number as usize];
                if node.state == Trial::Open {
                    return Some(number);
                }
                number = node.next;
            }
            self.lowest += 1;
        }
        None
    }

    /// The node is about to be tried: whether there is a need, given that no other one covers it.
    pub(super) fn take(&mut self, number: u32, cursor: &Cursor<W>) -> Option<Config<W>> {
        let Node { config, at, .. } = self.nodes[number as usize];
        self.nodes[number as usize].state = Trial::Needless;
        let mut other = self.heads[at as usize];
        while other != NONE {
            let node = &mut self.nodes[other as usize];
            match node.state {
                Trial::Needless => {}
                Trial::Open | Trial::Done if node.config.covers(&config, cursor) => return None,
                Trial::Open if config.covers(&node.config, cursor) => node.state = Trial::Needless,
                Trial::Open | Trial::Done => {}
            }
            other = node.next;
        }
        self.nodes[number as usize].state = Trial::Done;
        Some(config)
    }

    pub(super) fn node(&self, number: u32) -> &Node<W> {
        &self.nodes[number as usize]
    }

    /// The nodes that lead to one, with the moves that led to each, from the first on.
    pub(super) fn path(&self, number: u32) -> Vec<(u32, Vec<Move>)> {
        let mut path = Vec::new();
        let mut number = number;
        while number != NONE {
            let node = &self.nodes[number as usize];
            if node.parent != NONE {
                let before = self.nodes[node.parent as usize].at;
                path.push((before, self.moves_of(node)));
            }
            number = node.parent;
        }
        path.reverse();
        path
    }

    fn moves_of(&self, node: &Node<W>) -> Vec<Move> {
        let mut moves = Vec::new();
        for word in &self.moves[node.moves as usize..] {
            moves.push(Move { op: word & SPARE, in_gap: word & IN_GAP != 0 });
            if word & LAST != 0 {
                break;
            }
        }
        moves
    }

    /// A node of the last position that was reached.
    pub(super) fn furthest_node(&self) -> u32 {
        self.heads[self.furthest as usize]
    }
}

fn length<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).expect("memory is bounded long before")
}
