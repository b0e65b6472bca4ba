// The driver without options, and the potential that it serves.

#ifndef DRIVER_H
#define DRIVER_H

#include "ipi.h"

// Computes energy, virial and forces. Returns nonzero on failure.
int ipi_compute(const double h[9], const double *positions, double *forces, size_t natoms, ipi_evaluation *evaluation);

// Answers a server until it sends EXIT (IPI_EXIT) or closes (IPI_CLOSED), or until an error. Each
// array has 3 * capacity numbers.
int ipi_serve(double *positions, double *forces, size_t capacity);

#endif
