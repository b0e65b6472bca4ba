/* A server that uses the library's own calls and connects to its drivers, one after another.

   server HOW PORT TIMES: asks for two structures of two atoms a connection, of which coordinate i
   is 0 + i/8 and 50 + i/8 in a cube of 10 bohr, then ends it. Each evaluation is a line of all its
   numbers if TIMES is 1; each connection ends in one: evaluations, status, text.

   HOW: evaluate   forcewire_server_evaluate, consolidated
        classic    the same with FORCEWIRE_CLASSIC
        steps      forcewire_server_status, _initialize, _send_positions and _get_forces */

#include <forcewire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ATOMS = 2 };

static forcewire_status_t steps(forcewire_server_t *server, const forcewire_cell_t *cell, double (*positions)[3],
                                double (*forces)[3], forcewire_answer_t *answer, char *extras, size_t size)
{
    uint32_t known;
    forcewire_status_t status;
    while ((status = forcewire_server_status(server, &known)) == FORCEWIRE_OK && known & FORCEWIRE_NEEDS_INIT)
        if ((status = forcewire_server_initialize(server, 7, "k:1", 3)) != FORCEWIRE_OK)
            return status;
    if (status == FORCEWIRE_OK)
        status = forcewire_server_send_positions(server, cell, (const double(*)[3])positions, ATOMS);
    if (status == FORCEWIRE_OK)
        status = forcewire_server_get_forces(server, forces, ATOMS, answer, extras, size);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    const char *how = argv[1];
    const int inet = 1, port = atoi(argv[2]), times = atoi(argv[3]);
    forcewire_server_t server;
    if (forcewire_server_init(&server, strcmp(how, "classic") ? 0 : FORCEWIRE_CLASSIC))
        return 2;
    for (int time = 0; time < times; time++) {
        const forcewire_cell_t cell = {{{10, 0, 0}, {0, 10, 0}, {0, 0, 10}}};
        forcewire_status_t status;
        int socket, evaluations = 0;
        char text[512];
        open_socket(&socket, &inet, &port, "127.0.0.1", "");
        status = forcewire_server_adopt(&server, socket, NULL);
        while (status == FORCEWIRE_OK && evaluations < 2) {
            double positions[ATOMS][3], forces[ATOMS][3];
            forcewire_answer_t answer;
            char extras[16] = "";
            for (int i = 0; i < 3 * ATOMS; i++)
                positions[i / 3][i % 3] = 50 * evaluations + i / 8.0;
            if (strcmp(how, "steps"))
                status = forcewire_server_evaluate(&server, &cell, (const double(*)[3])positions, forces, ATOMS,
                                                   &answer, extras, sizeof extras - 1);
            else
                status = steps(&server, &cell, positions, forces, &answer, extras, sizeof extras - 1);
            if (status != FORCEWIRE_OK)
                break;
            evaluations++;
            if (times > 1)
                continue;
            printf("%.17g", answer.energy);
            for (int i = 0; i < 3 * ATOMS; i++)
                printf(" %.17g", forces[i / 3][i % 3]);
            for (int i = 0; i < 9; i++)
                printf(" %.17g", answer.virial[i / 3][i % 3]);
            printf(" %zu %s\n", answer.extras_size, extras);
        }
        if (status == FORCEWIRE_OK)
            status = forcewire_server_exit(&server);
        printf("%d %d %s\n", evaluations, status, forcewire_server_error(&server, text, sizeof text));
        fflush(stdout);
        forcewire_server_close(&server);
    }
    return 0;
}
