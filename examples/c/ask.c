/* A server in C: it prints how the energy of two atoms depends on their distance, for any driver.

   ask [ADDRESS]: the address to listen at, by default localhost:31415, or unix:NAME. */

#include <forcewire.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    static const forcewire_cell_t cell = {{{100, 0, 0}, {0, 100, 0}, {0, 0, 100}}}; /* bohr */
    double r[2][3] = {{0}}, f[2][3];
    forcewire_answer_t answer;
    forcewire_server_t server;
    forcewire_server_init(&server, 0);
    forcewire_status_t status = forcewire_server_accept(&server, argc > 1 ? argv[1] : "localhost:31415", NULL);
    if (status == FORCEWIRE_OK)
        printf("%10s %24s %24s\n", "bohr", "hartree", "hartree/bohr");
    for (int i = 0; i <= 8 && status == FORCEWIRE_OK; i++) {
        r[1][0] = 6 + 0.5 * i;
        status = forcewire_server_evaluate(&server, &cell, (const double (*)[3])r, f, 2, &answer, NULL, 0);
        if (status == FORCEWIRE_OK)
            printf("%10.2f %24.16e %24.16e\n", r[1][0], answer.energy, f[1][0]);
    }
    if (status == FORCEWIRE_OK)
        status = forcewire_server_exit(&server);
    char why[512];
    if (status != FORCEWIRE_OK)
        fprintf(stderr, "ask: %s\n", forcewire_server_error(&server, why, sizeof why));
    forcewire_server_close(&server);
    return (int)status;
}
