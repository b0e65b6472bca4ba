#include "argon.h"

#include <math.h>
#include <stdbool.h>

// Sums are made in the order of forcewire's own potential, and nothing is fused (-ffp-contract=off): every bit is that
// of the host's driver.

// Energy, and force divided by distance, of a pair.
static void pair(const argon_t *argon, double squared, double *energy, double *force)
{
    const double inverse = 1.0 / squared;
    const double s2 = argon->sigma * argon->sigma * inverse;
    const double s6 = s2 * s2 * s2;
    *energy = 4.0 * argon->epsilon * (s6 * (s6 - 1.0));
    *force = 24.0 * argon->epsilon * (s6 * (s6 + s6 - 1.0)) * inverse;
}

// The nearest image of the other atom; false if it is beyond the cutoff.
static bool nearest(const double box[3], double cutoff, const double from[3], const double to[3], double r[3])
{
    for (int i = 0; i < 3; i++) {
        r[i] = to[i] - from[i];
        if (fabs(r[i]) >= 0.5 * box[i])
            r[i] -= round(r[i] * (1.0 / box[i])) * box[i];
        if (fabs(r[i]) >= cutoff)
            return false;
    }
    return true;
}

int argon_compute(void *context, const forcewire_cell_t *cell, const double (*positions)[3], double (*forces)[3],
                  size_t natoms, forcewire_evaluation_t *evaluation)
{
    const argon_t *argon = context;
    double box[3];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            if (i == j && cell->h[i][j] > 0.0)
                box[i] = cell->h[i][j];
            else if (i == j || cell->h[i][j] != 0.0)
                return 1;

    const double cutoff_squared = argon->cutoff * argon->cutoff;
    double shift, unused;
    pair(argon, cutoff_squared, &shift, &unused);
    for (size_t i = 0; i < natoms; i++) {
        double row = 0.0, force[3] = {0.0}, virial[3][3] = {{0.0}};
        for (size_t j = i + 1; j < natoms; j++) {
            double r[3], energy, by_distance;
            if (!nearest(box, argon->cutoff, positions[i], positions[j], r))
                continue;
            const double squared = r[0] * r[0] + r[1] * r[1] + r[2] * r[2];
            if (squared >= cutoff_squared)
                continue;
            pair(argon, squared, &energy, &by_distance);
            row += energy - shift;
            double f[3];
            for (int k = 0; k < 3; k++) {
                f[k] = by_distance * r[k]; // on j, which r points to
                force[k] -= f[k];
                forces[j][k] += f[k];
            }
            for (int k = 0; k < 3; k++)
                for (int l = k; l < 3; l++)
                    virial[k][l] += r[k] * f[l];
        }
        evaluation->energy += row;
        for (int k = 0; k < 3; k++) {
            forces[i][k] += force[k];
            for (int l = k; l < 3; l++)
                evaluation->virial[k][l] += virial[k][l];
        }
    }
    for (int k = 0; k < 3; k++)
        for (int l = 0; l < k; l++)
            evaluation->virial[k][l] = evaluation->virial[l][k];
    return 0;
}
