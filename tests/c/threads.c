/* Handles share nothing: pairs of driver and server, each in its own thread, all at once. */

#include <assert.h>
#include <forcewire.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { PAIRS = 8, STRUCTURES = 200, ATOMS = 10 };

static int doubles(void *context, const forcewire_cell_t *cell, const double (*positions)[3], double (*forces)[3],
                   size_t natoms, forcewire_evaluation_t *evaluation)
{
    for (size_t i = 0; i < natoms; i++)
        for (int a = 0; a < 3; a++)
            forces[i][a] = 2 * positions[i][a];
    evaluation->energy = *(int *)context;
    evaluation->virial[1][1] = cell->h[1][1];
    return 0;
}

struct end {
    int socket, number;
};

static void *drives(void *argument)
{
    struct end *end = argument;
    forcewire_driver_t driver;
    assert(forcewire_driver_init(&driver, FORCEWIRE_INIT_EVERY_STEP) == FORCEWIRE_OK);
    assert(forcewire_driver_adopt(&driver, end->socket, NULL) == FORCEWIRE_OK);
    assert(forcewire_driver_serve(&driver, doubles, &end->number, NULL, NULL, 0) == FORCEWIRE_OK);
    assert(forcewire_driver_close(&driver) == FORCEWIRE_OK);
    return NULL;
}

static void *asks(void *argument)
{
    struct end *end = argument;
    forcewire_server_t server;
    assert(forcewire_server_init(&server, 0) == FORCEWIRE_OK);
    assert(forcewire_server_adopt(&server, end->socket, NULL) == FORCEWIRE_OK);
    for (int n = 0; n < STRUCTURES; n++) {
        const forcewire_cell_t cell = {{{10, 0, 0}, {0, n + 1, 0}, {0, 0, 10}}};
        double positions[ATOMS][3], forces[ATOMS][3];
        forcewire_answer_t answer;
        for (int i = 0; i < 3 * ATOMS; i++)
            positions[i / 3][i % 3] = end->number + n + i;
        assert(forcewire_server_evaluate(&server, &cell, (const double(*)[3])positions, forces, ATOMS, &answer, NULL,
                                         0) == FORCEWIRE_OK);
        for (int i = 0; i < 3 * ATOMS; i++)
            assert(forces[i / 3][i % 3] == 2 * (end->number + n + i));
        assert(answer.energy == end->number && answer.virial[1][1] == n + 1 && answer.extras_size == 0);
    }
    assert(forcewire_server_exit(&server) == FORCEWIRE_OK);
    assert(forcewire_server_close(&server) == FORCEWIRE_OK);
    return NULL;
}

int main(void)
{
    pthread_t threads[PAIRS][2];
    static struct end ends[PAIRS][2];
    for (int i = 0; i < PAIRS; i++) {
        int sockets[2];
        assert(!socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
        for (int side = 0; side < 2; side++) {
            ends[i][side] = (struct end){sockets[side], i};
            assert(!pthread_create(&threads[i][side], NULL, side ? asks : drives, &ends[i][side]));
        }
    }
    for (int i = 0; i < PAIRS; i++)
        for (int side = 0; side < 2; side++)
            assert(!pthread_join(threads[i][side], NULL));
    return 0;
}
