//! Copies of a machine, to see what it would do.

/// A machine's copy. Drivers and servers are not `Clone`, because no program needs two of one
/// conversation.
pub fn copy<T>(machine: &T) -> T {
    // SAFETY: only called for Driver and Server, which are plain data: numbers, enums and arrays,
    // no pointer to anything that a copy would share or free twice.
    unsafe { std::ptr::read(machine) }
}
