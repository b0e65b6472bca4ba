/* A driver in C: each atom on its own spring. README.md has the commands.

   driver [ADDRESS]: the server's address, by default localhost:31415, or unix:NAME. */

#include <forcewire.h>
#include <stdio.h>

static const double K = 0.04; /* hartree/bohr^2 */

/* Positions r are in bohr. Forces f, energy and virial are zeros at first. */
static int springs(void *context, const forcewire_cell_t *cell, const double (*r)[3], double (*f)[3], size_t natoms,
                   forcewire_evaluation_t *sum)
{
    (void)context, (void)cell;
    for (size_t i = 0; i < natoms; i++) {
        for (int a = 0; a < 3; a++)
            f[i][a] = -K * r[i][a];
        sum->energy += 0.5 * K * r[i][0] * r[i][0] + 0.5 * K * r[i][1] * r[i][1] + 0.5 * K * r[i][2] * r[i][2];
        for (int a = 0; a < 3; a++)
            for (int b = 0; b < 3; b++)
                sum->virial[a][b] += 0.5 * (r[i][a] * f[i][b] + r[i][b] * f[i][a]);
    }
    return 0;
}

int main(int argc, char **argv)
{
    forcewire_driver_t driver;
    forcewire_driver_init(&driver, FORCEWIRE_INIT_ONCE);
    forcewire_status_t status = forcewire_driver_connect(&driver, argc > 1 ? argv[1] : "localhost:31415", NULL);
    if (status == FORCEWIRE_OK)
        status = forcewire_driver_serve(&driver, springs, NULL, NULL, NULL, 0);
    char why[512];
    if (status != FORCEWIRE_OK)
        fprintf(stderr, "driver: %s\n", forcewire_driver_error(&driver, why, sizeof why));
    forcewire_driver_close(&driver);
    return (int)status;
}
