"""Lennard-Jones for i-PI's own driver: what its Fortran driver calls lj, once more, straight from the definition.

    i-pi-py_driver -m custom -P lj.py -o SIGMA,EPSILON,CUTOFF     (atomic units)
"""

import numpy as np
from ipi.pes import Dummy_driver

__DRIVER_NAME__ = "lennard_jones"
__DRIVER_CLASS__ = "LennardJones"


class LennardJones(Dummy_driver):
    def __init__(self, sigma, epsilon, cutoff, *args, **kwargs):
        self.sigma, self.epsilon, self.cutoff, self.volume = sigma, epsilon, cutoff, None
        super().__init__(*args, **kwargs)

    def compute_structure(self, cell, pos):
        # The cutoff scales with the volume, relative to the first structure.
        volume = abs(np.linalg.det(cell))
        self.volume = self.volume or volume
        cutoff = self.cutoff * np.cbrt(volume / self.volume)

        # The cell's vectors are the columns of `cell`. Fractional coordinates are rounded to the
        # nearest image.
        separation = pos[:, None, :] - pos[None, :, :]
        fraction = separation @ np.linalg.inv(cell).T
        separation = (fraction - np.rint(fraction)) @ cell.T
        distance = np.sqrt((separation**2).sum(axis=2))
        np.fill_diagonal(distance, np.inf)
        distance[distance >= cutoff] = np.inf

        s6 = (self.sigma / distance) ** 6
        potential = 4 * self.epsilon * (s6**2 - s6).sum() / 2
        # -u'(r)/r
        strength = 24 * self.epsilon * (2 * s6**2 - s6) / np.where(np.isinf(distance), 1, distance) ** 2
        pair_forces = strength[:, :, None] * separation
        forces = pair_forces.sum(axis=1)
        virial = np.einsum("ijk,ijl->kl", separation, pair_forces) / 2

        # Energy and pressure of a continuum beyond the cutoff (Allen and Tildesley, 2.8).
        s3, s9 = (self.sigma / cutoff) ** 3, (self.sigma / cutoff) ** 9
        scale = np.pi * len(pos) ** 2 / volume * self.epsilon * self.sigma**3
        potential += scale * (8 / 9 * s9 - 8 / 3 * s3)
        virial += np.eye(3) * scale * (32 / 9 * s9 - 16 / 3 * s3)
        return potential, forces, virial, ""
