//! The border to C, which no panic crosses.

/// Runs the body of a call from C. If it panics, the call returns the value of `otherwise`.
///
/// Firmware, which has no `std`, has nothing to catch: it only links if it can reach no panic.
#[cfg(feature = "std")]
pub fn guard<T>(body: impl FnOnce() -> T, otherwise: impl FnOnce() -> T) -> T {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    // The panic's message is on the error output already.
    let body = AssertUnwindSafe(|| {
        #[cfg(forcewire_panics)]
        panic_if_asked();
        body()
    });
    match catch_unwind(body) {
        Ok(value) => value,
        Err(payload) => {
            // Dropping it could panic again.
            core::mem::forget(payload);
            otherwise()
        }
    }
}

#[cfg(not(feature = "std"))]
#[inline(always)]
pub fn guard<T>(body: impl FnOnce() -> T, _: impl FnOnce() -> T) -> T {
    body()
}

/// For tests of this file: `RUSTFLAGS='--cfg forcewire_panics'`.
#[cfg(forcewire_panics)]
#[allow(clippy::panic)]
fn panic_if_asked() {
    if std::env::var_os("FORCEWIRE_PANICS").is_some() {
        panic!("as a test has asked for");
    }
}
