//! An allocator that counts, for the thread that asks.
//!
//! A program that wants counts declares it as its global allocator. Sizes are those that were asked
//! for: what the system adds to each of them is not seen.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Constant and without a destructor: counting itself never allocates.
    static CALLS: Cell<u64> = const { Cell::new(0) };
    // Wraps around: one thread may free what another has allocated.
    static LIVE: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, and two counters.
#[derive(Debug)]
pub struct Counting;

/// What a piece of work did to memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// How often it asked for new or more memory.
    pub allocations: u64,
    /// The bytes that it has allocated and not freed; zero if it freed more.
    pub kept_bytes: u64,
}

/// Counts what `work` does.
pub fn memory(work: impl FnOnce()) -> Memory {
    let (calls, live) = (CALLS.get(), LIVE.get());
    work();
    let kept = LIVE.get().wrapping_sub(live);
    let kept_bytes = if kept > u64::MAX / 2 { 0 } else { kept };
    Memory { allocations: CALLS.get() - calls, kept_bytes }
}

fn grown(by: usize) {
    CALLS.set(CALLS.get() + 1);
    LIVE.set(LIVE.get().wrapping_add(by as u64));
}

fn shrunk(by: usize) {
    LIVE.set(LIVE.get().wrapping_sub(by as u64));
}

#[expect(unsafe_code, reason = "an allocator is unsafe to implement; this one only counts")]
// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller keeps the contract, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller keeps the contract, which is the same there.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        shrunk(layout.size());
        grown(size);
        // SAFETY: the caller keeps the contract, which is the same there.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        shrunk(layout.size());
        // SAFETY: the caller keeps the contract, which is the same there.
        unsafe { System.dealloc(memory, layout) }
    }
}
