//! The results of a structure besides its forces.

use crate::geometry::Virial;
use crate::potential::Evaluation;

/// Energy, virial and extras of a structure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Answer {
    /// Energy and virial, hartree; the virial is made symmetric
    /// ([`Virial::symmetric`](crate::Virial::symmetric)).
    pub evaluation: Evaluation,
    pub(super) extras_at: usize,
    pub(super) extras_kept: usize,
    pub(super) extras_sent: usize,
}

impl Answer {
    pub(super) const NONE: Self = Self {
        evaluation: Evaluation {
            energy: 0.0,
            virial: Virial::ZERO,
        },
        extras_at: 0,
        extras_kept: 0,
        extras_sent: 0,
    };

    /// The extras: as many bytes as `buffer` had room for when the first of them arrived. Pass the
    /// buffer that was given to the exchange. Extras are empty, one blank, a NUL, or text, often
    /// JSON.
    #[must_use]
    pub fn extras<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        let from = buffer.get(self.extras_at..).unwrap_or_default();
        from.get(..self.extras_kept).unwrap_or_default()
    }

    /// How many bytes of extras the driver sent. If there was not enough room,
    /// [`extras`](Self::extras) returns fewer.
    #[must_use]
    pub const fn extras_sent(&self) -> usize {
        self.extras_sent
    }
}
