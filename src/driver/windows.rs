//! Positions and forces in chunks, for structures that don't fit into an array.

use crate::exchange::Sealed;
use crate::exchange::fingerprint::Fingerprint;
use crate::exchange::progress::Progress;
use crate::protocol::Scalar;
use crate::protocol::gather::Gather;
use crate::protocol::layout::{ATOM, REAL};
use crate::protocol::scalar::{
    as_memory, from_wire, from_wire_in_place, in_place, to_wire_in_place,
};

/// Accepts positions as they arrive, for instance into the memory of an accelerator, a file, or a
/// DMA window.
///
/// ```
/// use forcewire::Sink;
///
/// /// The centre of a structure of any size, in a few bytes of memory.
/// #[derive(Default)]
/// struct Centre {
///     natoms: usize,
///     sum: [f64; 3],
/// }
///
/// impl Sink for Centre {
///     type Real = f64;
///
///     fn begin(&mut self, natoms: usize) -> bool {
///         (self.natoms, self.sum) = (natoms, [0.0; 3]);
///         true
///     }
///
///     fn put(&mut self, _first: usize, atoms: &[[f64; 3]]) {
///         for r in atoms {
///             for (sum, x) in self.sum.iter_mut().zip(r) {
///                 *sum += x;
///             }
///         }
///     }
/// }
/// ```
pub trait Sink {
    /// The type of positions: `f64` or `f32`.
    type Real: Scalar;

    /// Announces `natoms` atoms, of all structures of a batch together, and returns whether there
    /// is room for them. If not, [`receive`](crate::Driver::receive_into) fails with `TooManyAtoms`
    /// and may be called again. This method is called once for each structure or batch, before its
    /// first [`put`](Self::put), and again if the exchange is dropped before that.
    fn begin(&mut self, natoms: usize) -> bool;

    /// Accepts the positions of up to 32 atoms, in bohr, starting with atom `first`. Calls are in
    /// order and without gaps. The numbers are finite, unless the driver [allows
    /// others](crate::Driver::allow_not_finite).
    fn put(&mut self, first: usize, atoms: &[[Self::Real; 3]]);
}

/// Provides forces as they are sent.
pub trait Source {
    /// The type of forces: `f64` or `f32`.
    type Real: Scalar;

    /// The number of atoms with forces, of all structures of a batch together.
    fn natoms(&self) -> usize;

    /// Writes forces, in hartree/bohr, starting with atom `first`. Fill all of `atoms`, which has
    /// up to 32. Calls are in order and without gaps, once for each atom.
    fn get(&mut self, first: usize, atoms: &mut [[Self::Real; 3]]);
}

/// Wraps a [`Sink`] or a [`Source`] for use in place of an array.
#[derive(Debug)]
pub struct Chunks<'a, S> {
    end: &'a mut S,
    begun: bool,
}

impl<'a, S> Chunks<'a, S> {
    pub(super) const fn new(end: &'a mut S) -> Self {
        Self { end, begun: false }
    }
}

/// The destination of positions: an array, or a [`Sink`]. Sealed.
pub trait Destination: Sealed {
    /// Whether bytes of the wire can be read directly into it.
    #[doc(hidden)]
    const IS_WIRE: bool;

    /// Checks that there is room for this many atoms. The error is the number of atoms that fit.
    #[doc(hidden)]
    fn room(&mut self, natoms: usize) -> Result<(), usize>;

    /// The memory of this many atoms, if bytes of the wire can be read into it.
    #[doc(hidden)]
    fn wire(&mut self, natoms: usize) -> &mut [u8];

    /// All of that memory.
    #[doc(hidden)]
    fn memory(&mut self) -> &mut [u8] {
        &mut []
    }

    /// Accepts numbers from number `first` on, and may convert them in place. Returns false if it
    /// refuses them because they are not finite.
    #[doc(hidden)]
    fn put(&mut self, first: usize, wire: &mut [u8], not_finite: bool) -> bool;

    /// Whether all numbers of this many atoms are finite, without repeating checks that were
    /// already done.
    #[doc(hidden)]
    fn all_finite(&self, natoms: usize, progress: &Progress) -> bool;

    /// Checks the numbers that have arrived.
    #[cfg(feature = "std")]
    #[doc(hidden)]
    fn look(&self, progress: &mut Progress) {
        let _ = progress;
    }

    /// Adds this many bytes of its memory to a fingerprint. Returns false if its contents can't be
    /// known.
    #[doc(hidden)]
    fn add_to(&self, fingerprint: &mut Fingerprint, bytes: usize) -> bool;

    /// The size of each number in memory, in bytes.
    #[doc(hidden)]
    const REAL: usize;

    /// Whether an exchange that was dropped may be recreated.
    #[doc(hidden)]
    const RESUMES: bool = true;
}

/// The origin of forces: an array, or a [`Source`]. Sealed.
pub trait Origin: Sealed {
    /// The number of atoms with forces.
    #[doc(hidden)]
    fn natoms(&self) -> usize;

    /// Whether all forces are finite, as far as that can be known before they are sent.
    #[doc(hidden)]
    fn all_finite(&self) -> bool;

    /// The numbers in memory, if their layout is the same as on the wire.
    #[doc(hidden)]
    fn wire(&self) -> Option<&[u8]>;

    /// Adds at most `most` numbers from number `first` on, as far as there is room, and returns how
    /// many. None if it refuses them because they are not finite.
    #[doc(hidden)]
    fn push(
        &mut self,
        first: usize,
        most: usize,
        not_finite: bool,
        message: &mut Gather<'_>,
    ) -> Option<usize>;

    /// Like [`Destination::add_to`], with all contents.
    #[doc(hidden)]
    fn add_to(&self, fingerprint: &mut Fingerprint) -> bool;

    /// Like [`Destination::RESUMES`].
    #[doc(hidden)]
    const RESUMES: bool = true;
}

/// An array of a program that never recreates an exchange. Fingerprints would be a sixth of that
/// program's flash.
#[derive(Debug)]
pub struct Kept<A>(pub(super) A);

impl<A: Sealed> Sealed for Kept<A> {}

impl<A: Destination> Destination for Kept<A> {
    const IS_WIRE: bool = A::IS_WIRE;
    const REAL: usize = A::REAL;
    const RESUMES: bool = false;

    fn room(&mut self, natoms: usize) -> Result<(), usize> {
        self.0.room(natoms)
    }

    fn wire(&mut self, natoms: usize) -> &mut [u8] {
        self.0.wire(natoms)
    }

    fn memory(&mut self) -> &mut [u8] {
        self.0.memory()
    }

    fn put(&mut self, first: usize, wire: &mut [u8], not_finite: bool) -> bool {
        self.0.put(first, wire, not_finite)
    }

    fn all_finite(&self, natoms: usize, progress: &Progress) -> bool {
        self.0.all_finite(natoms, progress)
    }

    #[cfg(feature = "std")]
    fn look(&self, progress: &mut Progress) {
        self.0.look(progress);
    }

    fn add_to(&self, _: &mut Fingerprint, _: usize) -> bool {
        false
    }
}

impl<A: Origin> Origin for Kept<A> {
    const RESUMES: bool = false;

    fn natoms(&self) -> usize {
        self.0.natoms()
    }

    fn all_finite(&self) -> bool {
        self.0.all_finite()
    }

    fn wire(&self) -> Option<&[u8]> {
        self.0.wire()
    }

    fn push(
        &mut self,
        first: usize,
        most: usize,
        not_finite: bool,
        message: &mut Gather<'_>,
    ) -> Option<usize> {
        self.0.push(first, most, not_finite, message)
    }

    fn add_to(&self, _: &mut Fingerprint) -> bool {
        false
    }
}

impl<T: Scalar> Sealed for &mut [[T; 3]] {}
impl<T: Scalar> Sealed for &[[T; 3]] {}
impl<S> Sealed for Chunks<'_, S> {}

impl<T: Scalar> Destination for &mut [[T; 3]] {
    const IS_WIRE: bool = T::IS_WIRE;
    const REAL: usize = size_of::<T>();

    fn room(&mut self, natoms: usize) -> Result<(), usize> {
        if natoms <= self.len() {
            Ok(())
        } else {
            Err(self.len())
        }
    }

    fn wire(&mut self, natoms: usize) -> &mut [u8] {
        let atoms = self.get_mut(..natoms).unwrap_or_default();
        T::as_wire_mut(atoms.as_flattened_mut()).unwrap_or_default()
    }

    fn memory(&mut self) -> &mut [u8] {
        T::as_wire_mut(self.as_flattened_mut()).unwrap_or_default()
    }

    fn put(&mut self, first: usize, wire: &mut [u8], _: bool) -> bool {
        let values = self.as_flattened_mut();
        from_wire(wire, values.get_mut(first..).unwrap_or_default());
        true
    }

    fn all_finite(&self, natoms: usize, progress: &Progress) -> bool {
        let numbers = self.get(..natoms).unwrap_or_default().as_flattened();
        T::all_finite(progress.unseen(numbers))
    }

    #[cfg(feature = "std")]
    fn look(&self, progress: &mut Progress) {
        progress.look(self.as_flattened());
    }

    fn add_to(&self, fingerprint: &mut Fingerprint, bytes: usize) -> bool {
        let memory = as_memory(self.as_flattened()).get(..bytes);
        fingerprint.bytes(memory.unwrap_or_default());
        fingerprint.word(Self::REAL as u32);
        memory.is_some()
    }
}

impl<S: Sink> Destination for Chunks<'_, S> {
    const IS_WIRE: bool = false;
    const REAL: usize = size_of::<S::Real>();

    fn room(&mut self, natoms: usize) -> Result<(), usize> {
        self.begun = self.begun || self.end.begin(natoms);
        if self.begun { Ok(()) } else { Err(0) }
    }

    fn wire(&mut self, _: usize) -> &mut [u8] {
        &mut []
    }

    fn put(&mut self, first: usize, wire: &mut [u8], not_finite: bool) -> bool {
        let values = from_wire_in_place::<S::Real>(wire);
        let finite = not_finite || S::Real::all_finite(values);
        if finite {
            self.end.put(first / 3, values.as_chunks().0);
        }
        finite
    }

    fn all_finite(&self, _: usize, _: &Progress) -> bool {
        true
    }

    fn add_to(&self, _: &mut Fingerprint, bytes: usize) -> bool {
        bytes == 0
    }
}

impl<T: Scalar> Origin for &[[T; 3]] {
    fn natoms(&self) -> usize {
        self.len()
    }

    fn all_finite(&self) -> bool {
        T::all_finite(self.as_flattened())
    }

    fn wire(&self) -> Option<&[u8]> {
        T::as_wire(self.as_flattened())
    }

    fn push(&mut self, first: usize, _: usize, _: bool, message: &mut Gather<'_>) -> Option<usize> {
        let rest = self.as_flattened().get(first..).unwrap_or_default();
        Some(message.push_atoms(rest))
    }

    fn add_to(&self, fingerprint: &mut Fingerprint) -> bool {
        fingerprint.bytes(as_memory(self.as_flattened()));
        fingerprint.word(size_of::<T>() as u32);
        true
    }
}

impl<S: Source> Origin for Chunks<'_, S> {
    fn natoms(&self) -> usize {
        self.end.natoms()
    }

    fn all_finite(&self) -> bool {
        true
    }

    fn wire(&self) -> Option<&[u8]> {
        None
    }

    fn push(
        &mut self,
        first: usize,
        most: usize,
        not_finite: bool,
        message: &mut Gather<'_>,
    ) -> Option<usize> {
        let room = message.room();
        let values = in_place::<S::Real>(room, (room.len() / ATOM * 3).min(most));
        if values.is_empty() {
            return Some(0);
        }
        // Numbers that the source fails to write must not be sent with the bytes of another
        // message.
        values.fill(S::Real::ZERO);
        self.end.get(first / 3, values.as_chunks_mut().0);
        if !not_finite && !S::Real::all_finite(values) {
            return None;
        }
        let count = values.len();
        to_wire_in_place::<S::Real>(room, count);
        message.grow(count * REAL);
        Some(count)
    }

    fn add_to(&self, _: &mut Fingerprint) -> bool {
        false
    }
}
