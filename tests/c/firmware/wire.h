// Shared by the images: a wire that the compiler knows nothing of, a potential that costs nothing,
// and memory.

#ifndef WIRE_H
#define WIRE_H

#include "forcewire.h"

enum { ATOMS = 64 };
extern double positions[ATOMS][3], forces[ATOMS][3];

extern const forcewire_transport_t wire;

int potential(void *context, const forcewire_cell_t *cell, const double (*positions)[3], double (*forces)[3],
              size_t natoms, forcewire_evaluation_t *evaluation);

// The compiler must not know what is done with it.
void tell(uintptr_t number);

// Where an image begins.
void image(void);

#endif
