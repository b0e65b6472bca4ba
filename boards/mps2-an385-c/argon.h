// Argon in a box: Lennard-Jones's potential, u(r) = 4 epsilon ((sigma/r)^12 - (sigma/r)^6), shifted to 0 at the cutoff.

#ifndef ARGON_H
#define ARGON_H

#include "forcewire.h"

typedef struct {
    // Bohr, hartree, bohr. The cutoff is at most half an edge of the box.
    double sigma, epsilon, cutoff;
} argon_t;

// forcewire's forcewire_potential_t, with an argon_t as context. Fails if the cell is not a box along x, y and z.
int argon_compute(void *context, const forcewire_cell_t *cell, const double (*positions)[3], double (*forces)[3],
                  size_t natoms, forcewire_evaluation_t *evaluation);

#endif
