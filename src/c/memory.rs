//! The caller's memory: pointers that may be NULL, and lengths that may be wrong.

#[cfg(feature = "std")]
use core::ffi::CStr;
use core::ffi::c_char;
use core::fmt::{self, Write};
use core::ops::Range;
use core::slice;

/// The caller's array. None if it is NULL, or longer than any array can be.
///
/// # Safety
///
/// If `array` is not NULL, it has `len` elements during the lifetime of the slice, and nothing
/// writes to them.
pub unsafe fn array<'a, T>(array: *const T, len: usize) -> Option<&'a [T]> {
    if len == 0 {
        return Some(&[]);
    }
    // SAFETY: the array is neither NULL, misaligned nor too long; the caller guarantees the rest.
    is_array(array, len).then(|| unsafe { slice::from_raw_parts(array, len) })
}

/// The caller's array, writable. None in the same cases as for [`array`].
///
/// # Safety
///
/// The conditions of [`array`] hold, and nothing else reads the elements either. They need not be
/// initialized if all bit patterns are valid for the type.
pub unsafe fn array_mut<'a, T>(array: *mut T, len: usize) -> Option<&'a mut [T]> {
    if len == 0 {
        return Some(&mut []);
    }
    // SAFETY: as above.
    is_array(array, len).then(|| unsafe { slice::from_raw_parts_mut(array, len) })
}

fn is_array<T>(array: *const T, len: usize) -> bool {
    let fits = len
        .checked_mul(size_of::<T>())
        .is_some_and(|bytes| isize::try_from(bytes).is_ok());
    !array.is_null() && array.is_aligned() && fits
}

/// The addresses of an array; empty for memory that is not an array.
pub fn span<T>(array: *const T, len: usize) -> Range<usize> {
    let (begin, bytes) = (array.addr(), len.wrapping_mul(size_of::<T>()));
    if bytes > 0 && is_array(array, len) {
        begin..begin.saturating_add(bytes)
    } else {
        0..0
    }
}

/// Whether arrays share memory. An array must not be read while an overlapping one is written: its
/// numbers would change before they are used.
pub fn overlap<const N: usize>(spans: [Range<usize>; N]) -> bool {
    let mut rest = spans.iter();
    while let Some(one) = rest.next() {
        let mut others = rest.clone();
        if others.any(|other| one.start < other.end && other.start < one.end) {
            return true;
        }
    }
    false
}

/// Writes as much of a text as there is room for, with a NUL at its end, and returns it for use in
/// `printf`.
///
/// # Safety
///
/// `text` is NULL or points to `size` bytes that nothing else uses.
pub unsafe fn print(text: *mut c_char, size: usize, what: impl fmt::Display) -> *const c_char {
    // SAFETY: the caller keeps to the conditions above.
    let Some([room @ .., _]) = (unsafe { array_mut(text.cast::<u8>(), size) }) else {
        return c"".as_ptr();
    };
    let mut rest = Room(room);
    let _ = write!(rest, "{what}");
    let remaining = rest.0.len();
    // SAFETY: `remaining` bytes and one more follow the written ones.
    unsafe { text.add(size - 1 - remaining).write(0) };
    text
}

struct Room<'a>(&'a mut [u8]);

impl Write for Room<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut fits = text.len().min(self.0.len());
        // Don't cut a character.
        while !text.is_char_boundary(fits) {
            fits -= 1;
        }
        let (room, rest) = core::mem::take(&mut self.0)
            .split_at_mut_checked(fits)
            .unwrap_or_default();
        // `copy_from_slice` would panic if the lengths differed.
        for (to, byte) in room.iter_mut().zip(text.bytes()) {
            *to = byte;
        }
        self.0 = if fits < text.len() { &mut [] } else { rest };
        Ok(())
    }
}

/// The bytes of a C string.
///
/// # Safety
///
/// `text` is NULL or ends with a NUL, and nothing writes to it during the lifetime of the slice.
#[cfg(feature = "std")]
pub unsafe fn text<'a>(text: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: the pointer is not NULL, and the caller guarantees the rest.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes())
}
