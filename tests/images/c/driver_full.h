// The driver with INIT, batches, extras and parameters.

#ifndef DRIVER_FULL_H
#define DRIVER_FULL_H

#include "ipi.h"

enum { NEVER, ONCE, EVERY_STEP };
enum { TEXT = 256 };

typedef struct {
    // When to ask for INIT, and what is allowed. A reset keeps these.
    uint8_t initialize;
    bool changing_atoms, not_finite;

    uint8_t phase, seen;
    bool news;
    int32_t replica, natoms;
    // The batch size announced by INIT, and the number of structures received last.
    uint32_t batch_size;
    size_t structures;
    // INIT's text: how many bytes arrived, and the first of them.
    size_t sent;
    char text[TEXT];
    outgoing out;
} ipi_driver;

// Resets the driver for the next connection.
void ipi_reset(ipi_driver *driver);

// Answers the server until IPI_INIT, IPI_POSITIONS, IPI_EXIT or IPI_CLOSED, or an error. There is
// room for this many cells (9 numbers each) and atoms.
int ipi_receive(ipi_driver *driver, double *cells, size_t structures, double *positions, size_t capacity);

// Sends the results: an evaluation for each structure, forces of this many atoms in total, and
// extras, either none or one for each structure. Returns IPI_OK even if the server has ended the
// conversation; the next ipi_receive reports that.
int ipi_reply(ipi_driver *driver, const ipi_evaluation *evaluations, size_t structures, const double *forces,
              size_t atoms, const ipi_text *extras, size_t texts);

// Finds the next parameter of INIT's text from *at on.
bool ipi_parameter(const ipi_driver *driver, size_t *at, ipi_text *key, ipi_text *value);

#endif
