//! Logging through `defmt` or `log`, whichever feature is on, or through nothing.
//!
//! Normal traffic is `trace`, a refusal is `debug`; a library logs nothing louder.

macro_rules! trace {
    ($($arg:tt)*) => {{
        #[cfg(feature = "defmt")]
        ::defmt::trace!($($arg)*);
        #[cfg(all(feature = "log", not(feature = "defmt")))]
        ::log::trace!($($arg)*);
        // Not even the arguments are computed.
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
        // Not even the arguments are computed.
        #[cfg(not(any(feature = "defmt", feature = "log")))]
        if false {
            let _ = ::core::format_args!($($arg)*);
        }
    }};
}

pub(crate) use {debug, trace};
