// Argon: the Lennard-Jones potential, u(r) = 4 epsilon ((sigma/r)^12 - (sigma/r)^6), shifted to 0
// at the cutoff.

#ifndef ARGON_H
#define ARGON_H

#include "forcewire.h"

typedef struct {
    // Bohr, hartree, bohr.
    double sigma, epsilon, cutoff;
} argon_t;

// A forcewire_potential_t with an argon_t as its context. It fails unless the cell is upper
// triangular, as i-PI's are, and the cutoff is at most half the distance between opposite faces.
int argon_compute(void *context, const forcewire_cell_t *cell, const double (*positions)[3], double (*forces)[3],
                  size_t natoms, forcewire_evaluation_t *evaluation);

#endif
