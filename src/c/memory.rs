//! The caller's memory: pointers that may be NULL, and lengths that may be nonsense.

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
/// If `array` is not NULL, it has `len` elements as long as the slice is used, and nothing writes
/// to them.
pub unsafe fn array<'a, T>(array: *const T, len: usize) -> Option<&'a [T]> {
    if len == 0 {
        return Some(&[]);
    }
    // SAFETY: it is neither NULL nor misaligned nor too long; the caller vouches for the rest.
    is_array(array, len).then(|| unsafe { slice::from_raw_parts(array, len) })
}

/// The same, to be written to.
///
/// # Safety
///
/// As for [`array`], and nothing else reads them either. They need not be initialized if all bits
/// are valid for the type.
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

/// The addresses of an array. None of what is no array.
pub fn span<T>(array: *const T, len: usize) -> Range<usize> {
    let (begin, bytes) = (array.addr(), len.wrapping_mul(size_of::<T>()));
    if bytes > 0 && is_array(array, len) {
        begin..begin.saturating_add(bytes)
    } else {
        0..0
    }
}

/// Whether arrays share memory. One that is read while another is written must not: its numbers
/// would change before they are used.
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

/// Writes a text as C has them, as much of it as there is room for, and gives it back: for
/// `printf`.
///
/// # Safety
///
/// `text` is NULL or points to `size` bytes that nothing else uses.
pub unsafe fn print(text: *mut c_char, size: usize, what: impl fmt::Display) -> *const c_char {
    // SAFETY: the caller's word.
    let Some([room @ .., _]) = (unsafe { array_mut(text.cast::<u8>(), size) }) else {
        return c"".as_ptr();
    };
    let mut rest = Room(room);
    let _ = write!(rest, "{what}");
    let left = rest.0.len();
    // SAFETY: there is room for `left` bytes and one more after what was written.
    unsafe { text.add(size - 1 - left).write(0) };
    text
}

struct Room<'a>(&'a mut [u8]);

impl Write for Room<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut fits = text.len().min(self.0.len());
        // A character is not cut.
        while !text.is_char_boundary(fits) {
            fits -= 1;
        }
        let (room, rest) = core::mem::take(&mut self.0)
            .split_at_mut_checked(fits)
            .unwrap_or_default();
        // Not copy_from_slice, which panics if the two differ in length.
        for (to, byte) in room.iter_mut().zip(text.bytes()) {
            *to = byte;
        }
        self.0 = if fits < text.len() { &mut [] } else { rest };
        Ok(())
    }
}

/// A text of C's.
///
/// # Safety
///
/// `text` is NULL, or ends with a NUL, and nothing writes to it while the slice is used.
#[cfg(feature = "std")]
pub unsafe fn text<'a>(text: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: it is not NULL; the caller vouches for the rest.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes())
}
