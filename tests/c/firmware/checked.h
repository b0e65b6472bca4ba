// A driver as it is written by hand: the loop that a firmware author would write without the
// library.

#ifndef CHECKED_H
#define CHECKED_H

#include "forcewire.h"

typedef enum { CHECKED_EXIT, CHECKED_CLOSED, CHECKED_FAILED } checked_t;

// Classic and consolidated. Every length is checked, moved and announced, and the end of the stream
// is distinguished by where it comes. The library also handles: numbers that are not finite,
// another number of atoms than before, batches, INIT on demand, time-outs to go on from, and which
// of these it was.
checked_t checked_serve(const forcewire_transport_t *wire, forcewire_potential_t potential, void *context,
                        double (*positions)[3], double (*forces)[3], int32_t capacity);

#endif
