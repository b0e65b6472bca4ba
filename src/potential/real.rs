//! Real numbers with the functions of a potential, the same to the last bit on every target.

use crate::protocol::Scalar;

/// A [`Scalar`] with the functions that a potential needs.
///
/// The functions come from the `libm` crate on every target, never from the host. The crate's
/// potentials use only these functions and + − × ÷, in a fixed order and without fused operations.
/// An `f64` evaluation on a Cortex-M3 therefore agrees with one on x86-64 in every bit.
///
/// The trait is sealed, as `Scalar` is.
///
/// ```
/// use forcewire::potential::Real;
///
/// assert_eq!(2.25_f32.sqrt(), 1.5);
/// assert_eq!(Real::round(-0.5_f64), -1.0);
/// ```
pub trait Real: Scalar {
    /// The absolute value.
    #[must_use]
    fn abs(self) -> Self;
    /// e to the power of this number.
    #[must_use]
    fn exp(self) -> Self;
    /// The nearest integer, halves away from zero (as Fortran's `DNINT`).
    #[must_use]
    fn round(self) -> Self;
    /// The square root.
    #[must_use]
    fn sqrt(self) -> Self;
}

impl Real for f64 {
    fn abs(self) -> Self {
        libm::fabs(self)
    }

    fn exp(self) -> Self {
        libm::exp(self)
    }

    fn round(self) -> Self {
        libm::round(self)
    }

    fn sqrt(self) -> Self {
        libm::sqrt(self)
    }
}

impl Real for f32 {
    fn abs(self) -> Self {
        libm::fabsf(self)
    }

    fn exp(self) -> Self {
        libm::expf(self)
    }

    fn round(self) -> Self {
        libm::roundf(self)
    }

    fn sqrt(self) -> Self {
        libm::sqrtf(self)
    }
}
