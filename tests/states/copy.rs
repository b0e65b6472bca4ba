//! Copies of a machine, to try out what it would do.

/// Copies a machine. Drivers and servers are not `Clone`, because no program needs two of one
/// conversation.
pub fn copy<T>(machine: &T) -> T {
    // SAFETY: only called for Driver and Server, which are plain data: numbers, enums and arrays,
    // without any pointer that a copy would share or free twice.
    unsafe { std::ptr::read(machine) }
}
