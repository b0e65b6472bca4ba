// The server: INIT, positions of one structure or of a batch, forces, extras.

#ifndef SERVER_H
#define SERVER_H

#include "ipi.h"

enum { CONSOLIDATED, CLASSIC, STRICT };

// What is known about the driver.
enum { UNKNOWN, ASKED, NEEDS_INIT, DRIVER_IS_READY, COMPUTING, HAS_FORCES, AWAITING, LEAVING, GONE };

typedef struct {
    // How to send messages, the batch size, and what is allowed. A reset keeps these.
    uint8_t mode;
    bool changing_atoms, not_finite;
    uint32_t batch;

    uint8_t phase;
    bool initialized; // INIT has just left
    int error;
    int32_t natoms;
    // The number of structures in each message, and how many of them were requested.
    size_t carried, structures;
    outgoing out;
} ipi_server;

// h row-major and upper triangular, one for each structure; positions one structure after the
// other.
typedef struct {
    int32_t replica;
    ipi_text init;
    const double (*cells)[9], *positions;
    size_t structures, natoms;
} ipi_request;

typedef struct {
    ipi_evaluation evaluation;
    // The place of the extras in the buffer, how many bytes are there, and how many the driver
    // sent.
    size_t extras_at, extras_kept, extras_sent;
} ipi_answer;

// The destination of the answers: one for each structure, 3 numbers for each atom, and extras as
// far as there is room.
typedef struct {
    ipi_answer *answers;
    double *forces;
    char *extras;
    size_t structures, atoms, room;
} ipi_answers;

// Resets the server for the next driver.
void ipi_server_reset(ipi_server *server);

// Each call returns IPI_OK or an error; ipi_status returns the phase.
int ipi_status(ipi_server *server);
int ipi_initialize(ipi_server *server, int32_t replica, ipi_text text);
int ipi_send_positions(ipi_server *server, const ipi_request *request);
int ipi_get_forces(ipi_server *server, const ipi_answers *to);
int ipi_evaluate(ipi_server *server, const ipi_request *request, const ipi_answers *to);
int ipi_exit(ipi_server *server);

#endif
