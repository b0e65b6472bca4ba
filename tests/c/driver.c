/* A driver that uses the library's own calls, for one connection after another.

   driver HOW ADDRESS K [TIMES]: springs of K hartree/bohr^2 on all atoms; with a K of 0, forces
   that are the positions and an energy of 1.5; with a K of inf, a potential that fails. TIMES
   connections, 1 by default; each ends in a line: evaluations, status, text.

   HOW: serve     forcewire_driver_serve, memory of the library's; asks for INIT once, so
                  that i-PI sends batches
        arrays    forcewire_driver_serve, arrays of this program's
        steps     forcewire_driver_receive and _reply, arrays that grow; extras
        functions as steps, over functions that move a few bytes at a time and are interrupted in between */

#include <forcewire.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ATOMS = 1000 };

struct springs {
    double k;
    int evaluations;
};

static int springs(void *context, const forcewire_cell_t *cell, const double (*positions)[3], double (*forces)[3],
                   size_t natoms, forcewire_evaluation_t *evaluation)
{
    struct springs *it = context;
    double k = it->k, energy = 0;
    (void)cell;
    for (size_t i = 0; i < natoms; i++) {
        const double *x = positions[i];
        double *f = forces[i];
        /* The order of operations is the same as in the Rust driver, so all bits agree. */
        energy += 0.5 * k * x[0] * x[0] + 0.5 * k * x[1] * x[1] + 0.5 * k * x[2] * x[2];
        for (int a = 0; a < 3; a++)
            f[a] = k ? -k * x[a] : x[a];
        for (int a = 0; k && a < 3; a++) {
            evaluation->virial[a][a] += x[a] * f[a];
            for (int b = a + 1; b < 3; b++) {
                evaluation->virial[a][b] += 0.5 * (x[a] * f[b] + x[b] * f[a]);
                evaluation->virial[b][a] = evaluation->virial[a][b];
            }
        }
    }
    evaluation->energy = k ? energy : 1.5;
    it->evaluations++;
    if (!isfinite(k))
        usleep(200000); /* The server asks meanwhile. */
    return isinf(k) ? 17 : 0;
}

/* Moves a few bytes at a time, never all that were requested. Every third call fails as if a signal
   had arrived. */
struct wire {
    int socket, calls;
    char kept[4096];
    size_t size;
};

static ptrdiff_t wire_recv(void *context, void *bytes, size_t size, bool owed)
{
    struct wire *wire = context;
    (void)owed;
    if (++wire->calls % 3 == 0)
        return -FORCEWIRE_TIMED_OUT;
    size_t most = 1 + wire->calls % 7;
    return recv(wire->socket, bytes, size < most ? size : most, 0);
}

static int wire_flush(void *context)
{
    struct wire *wire = context;
    size_t size = wire->size;
    wire->size = 0;
    return send(wire->socket, wire->kept, size, MSG_NOSIGNAL) == (ssize_t)size ? 0 : -1;
}

static ptrdiff_t wire_send(void *context, const void *bytes, size_t size)
{
    struct wire *wire = context;
    if (++wire->calls % 3 == 0)
        return -FORCEWIRE_TIMED_OUT;
    if (wire->size == sizeof wire->kept && wire_flush(wire))
        return -1;
    size_t room = sizeof wire->kept - wire->size, n = size < room ? size : room;
    memcpy(wire->kept + wire->size, bytes, n);
    wire->size += n;
    return n;
}

/* Serves step by step. A call that timed out is repeated and continues where it stopped; so does
   one for which there was no room. */
static forcewire_status_t steps(forcewire_driver_t *driver, struct springs *potential)
{
    double(*positions)[3] = NULL, (*forces)[3] = NULL;
    size_t room = 0;
    forcewire_status_t status;
    for (;;) {
        forcewire_event_t event;
        status = forcewire_driver_receive(driver, positions, room, &event);
        if (status == FORCEWIRE_TIMED_OUT)
            continue;
        if (status == FORCEWIRE_NO_ROOM) {
            room = event.natoms;
            positions = realloc(positions, room * sizeof *positions);
            forces = realloc(forces, room * sizeof *forces);
            continue;
        }
        if (status != FORCEWIRE_OK || event.kind == FORCEWIRE_EVENT_EXIT)
            break;
        if (event.kind == FORCEWIRE_EVENT_CLOSED) {
            status = FORCEWIRE_CLOSED;
            break;
        }
        if (event.kind == FORCEWIRE_EVENT_INIT) {
            size_t size;
            const char *text = forcewire_driver_init_text(driver, &size);
            if (event.replica != 7 || size != 3 || memcmp(text, "k:1", 3))
                abort();
            continue;
        }
        forcewire_evaluation_t evaluation = {0};
        springs(potential, &event.cell, (const double(*)[3])positions, forces, event.natoms, &evaluation);
        do
            status = forcewire_driver_reply(driver, &evaluation, (const double(*)[3])forces, event.natoms, "{}",
                                            potential->k ? 2 : 0);
        while (status == FORCEWIRE_TIMED_OUT);
        if (status != FORCEWIRE_OK)
            break;
    }
    free(positions);
    free(forces);
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    const char *how = argv[1], *address = argv[2];
    struct springs potential = {atof(argv[3]), 0};
    static double positions[ATOMS][3], forces[ATOMS][3];
    forcewire_driver_t driver;
    if (forcewire_driver_init(&driver, strcmp(how, "serve") || !potential.k || !isfinite(potential.k) ? 0 : FORCEWIRE_INIT_ONCE))
        return 2;
    for (int times = argc > 4 ? atoi(argv[4]) : 1; times > 0; times--) {
        struct wire wire = {0};
        forcewire_status_t status = FORCEWIRE_OK;
        char text[512];
        potential.evaluations = 0;
        if (strcmp(how, "functions")) {
            status = forcewire_driver_connect(&driver, address, NULL);
        } else {
            const int inet = 1, port = atoi(strrchr(address, ':') + 1);
            open_socket(&wire.socket, &inet, &port, "127.0.0.1", "");
            forcewire_transport_t transport = {&wire, wire_recv, wire_send, wire_flush};
            status = forcewire_driver_attach(&driver, &transport);
        }
        if (status == FORCEWIRE_OK && !strcmp(how, "serve"))
            status = forcewire_driver_serve(&driver, springs, &potential, NULL, NULL, 0);
        else if (status == FORCEWIRE_OK && !strcmp(how, "arrays"))
            status = forcewire_driver_serve(&driver, springs, &potential, positions, forces, ATOMS);
        else if (status == FORCEWIRE_OK)
            status = steps(&driver, &potential);
        printf("%d %d %s\n", potential.evaluations, status, forcewire_driver_error(&driver, text, sizeof text));
        fflush(stdout);
        forcewire_driver_close(&driver);
        if (!strcmp(how, "functions"))
            close(wire.socket);
    }
    return 0;
}
