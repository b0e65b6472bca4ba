// The common part of the images: a wire that the compiler knows nothing about, a potential without
// cost, and memory.

#ifndef WIRE_H
#define WIRE_H

#include "forcewire.h"

enum { ATOMS = 64 };
extern double positions[ATOMS][3], forces[ATOMS][3];

extern const forcewire_transport_t wire;

int potential(void *context, const forcewire_cell_t *cell, const double (*positions)[3], double (*forces)[3],
              size_t natoms, forcewire_evaluation_t *evaluation);

// An external function, so that the compiler can't remove the result.
void tell(uintptr_t number);

// The entry point of an image.
void image(void);

#endif
