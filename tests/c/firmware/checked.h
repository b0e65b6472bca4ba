// A driver without the library: the loop that a firmware author would write by hand.

#ifndef CHECKED_H
#define CHECKED_H

#include "forcewire.h"

typedef enum { CHECKED_EXIT, CHECKED_CLOSED, CHECKED_FAILED } checked_t;

// Serves classic and consolidated conversations. Every announced and moved length is checked, and
// the end of the stream is judged by its place. The library also handles numbers that are not
// finite, a changed number of atoms, batches, INIT on demand, time-outs after which to continue,
// and reports which of these happened.
checked_t checked_serve(const forcewire_transport_t *wire, forcewire_potential_t potential, void *context,
                        double (*positions)[3], double (*forces)[3], int32_t capacity);

#endif
