//! Texts of errors, and logging through `defmt`, `log`, or not at all, by feature.
//!
//! Normal traffic is logged as `trace`, a refusal as `debug`. A library logs nothing louder.

macro_rules! trace {
    ($($arg:tt)*) => {{
        #[cfg(feature = "defmt")]
        ::defmt::trace!($($arg)*);
        #[cfg(all(feature = "log", not(feature = "defmt")))]
        ::log::trace!($($arg)*);
        // The arguments are type-checked but never computed.
        #[cfg(not(any(feature = "defmt", feature = "log")))]
        if false {
            let _ = ::core::format_args!($($arg)*);
        }
    }};
}

macro_rules! debug {
    ($($arg:tt)*) => {{
        #[cfg(feature = "defmt")]
        ::defmt::debug!($($arg)*);
        #[cfg(all(feature = "log", not(feature = "defmt")))]
        ::log::debug!($($arg)*);
        // The arguments are type-checked but never computed.
        #[cfg(not(any(feature = "defmt", feature = "log")))]
        if false {
            let _ = ::core::format_args!($($arg)*);
        }
    }};
}

/// Formats `Debug` like `Display`. A `main` that returns an error prints its `Debug`, and a
/// sentence about what happened and what to do is worth more there than the name of a variant.
macro_rules! debug_as_display {
    ($error:ident $(<$transport:ident>)?) => {
        impl$(<$transport: ::core::fmt::Display>)? ::core::fmt::Debug for $error$(<$transport>)? {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Display::fmt(self, f)
            }
        }
    };
}

pub(crate) use {debug, debug_as_display, trace};
