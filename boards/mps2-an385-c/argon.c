#include "argon.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

// The order of the sums is the same as in forcewire's potential, and no operations are fused
// (-ffp-contract=off), so all bits equal the host driver's.

// Energy, and force divided by distance, of a pair.
static void pair(const argon_t *argon, double squared, double *energy, double *force)
{
    const double inverse = 1.0 / squared;
    const double s2 = argon->sigma * argon->sigma * inverse;
    const double s6 = s2 * s2 * s2;
    *energy = 4.0 * argon->epsilon * (s6 * (s6 - 1.0));
    *force = 24.0 * argon->epsilon * (s6 * (s6 + s6 - 1.0)) * inverse;
}

static double dot(const double a[3], const double b[3])
{
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

// The inverse of an upper triangular cell; false if the cell is not upper triangular or too narrow
// for the cutoff.
static bool invert(const double h[3][3], double cutoff, double inverse[3][3])
{
    if (!(h[0][0] > 0.0 && h[1][1] > 0.0 && h[2][2] > 0.0) || h[1][0] != 0.0 || h[2][0] != 0.0 || h[2][1] != 0.0)
        return false;
    const double x = 1.0 / h[0][0], y = 1.0 / h[1][1], z = 1.0 / h[2][2];
    const double rows[3][3] = {
        {x, -h[0][1] * x * y, (h[0][1] * h[1][2] * y - h[0][2]) * x * z},
        {0.0, y, -h[1][2] * y * z},
        {0.0, 0.0, z},
    };
    memcpy(inverse, rows, sizeof rows);
    for (int i = 0; i < 3; i++)
        if (!(cutoff * cutoff * dot(rows[i], rows[i]) <= 0.25))
            return false;
    return true;
}

// The vector from one atom to the nearest image of another, r - h round(1/h r), and its square.
static double separation(const double h[3][3], const double inverse[3][3], double cutoff_squared, const double from[3],
                         const double to[3], double r[3])
{
    const double direct[3] = {to[0] - from[0], to[1] - from[1], to[2] - from[2]};
    memcpy(r, direct, sizeof direct);
    double squared = dot(r, r);
    // A pair within the cutoff in the same image needs no rounding.
    if (squared < cutoff_squared)
        return squared;
    for (int vector = 0; vector < 3; vector++) {
        const double cells = round(dot(inverse[vector], direct));
        for (int i = 0; i < 3; i++)
            r[i] -= cells * h[i][vector];
    }
    return dot(r, r);
}

int argon_compute(void *context, const forcewire_cell_t *cell, const double (*positions)[3], double (*forces)[3],
                  size_t natoms, forcewire_evaluation_t *evaluation)
{
    const argon_t *argon = context;
    double inverse[3][3];
    if (!invert(cell->h, argon->cutoff, inverse))
        return 1;

    const double cutoff_squared = argon->cutoff * argon->cutoff;
    double shift, unused;
    pair(argon, cutoff_squared, &shift, &unused);
    for (size_t i = 0; i < natoms; i++) {
        double row = 0.0, force[3] = {0.0}, virial[3][3] = {{0.0}};
        for (size_t j = i + 1; j < natoms; j++) {
            double r[3], energy, by_distance;
            const double squared = separation(cell->h, inverse, cutoff_squared, positions[i], positions[j], r);
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
