// The driver with INIT, batches, extras and parameters.

#ifndef DRIVER_FULL_H
#define DRIVER_FULL_H

#include "ipi.h"

enum { NEVER, ONCE, EVERY_STEP };
enum { TEXT = 256 };

typedef struct {
    // When INIT is asked for, and what is allowed. A reset keeps these.
    uint8_t initialize;
    bool changing_atoms, not_finite;

    uint8_t phase, seen;
    bool news;
    int32_t replica, natoms;
    // Structures of a batch, as announced by INIT and as received last.
    uint32_t batch_size;
    size_t structures;
    // INIT's text: bytes that came, and the first of them.
    size_t sent;
    char text[TEXT];
    outgoing out;
} ipi_driver;

// Makes the driver new for the next connection.
void ipi_reset(ipi_driver *driver);

// Answers the server until IPI_INIT, IPI_POSITIONS, IPI_EXIT or IPI_CLOSED, or an error. Room for
// this many cells (9 numbers each) and atoms.
int ipi_receive(ipi_driver *driver, double *cells, size_t structures, double *positions, size_t capacity);

// Sends what was computed: an evaluation for each structure, forces of this many atoms in all, and
// extras, either none or one for each structure. IPI_OK also if the server has left: the next
// ipi_receive reports it.
int ipi_reply(ipi_driver *driver, const ipi_evaluation *evaluations, size_t structures, const double *forces,
              size_t atoms, const ipi_text *extras, size_t texts);

// Finds the next parameter of INIT's text from *at on.
bool ipi_parameter(const ipi_driver *driver, size_t *at, ipi_text *key, ipi_text *value);

#endif
