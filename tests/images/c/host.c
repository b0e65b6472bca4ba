// Runs the three programs on this machine, each over a socket as its standard input; test.rs is the
// other end.
//
//   host driver PIECE CAPACITY
//   host full PIECE CAPACITY STRUCTURES INITIALIZE
//   host server PIECE MODE BATCH STRUCTURES NATOMS STEPS ROOM
//
// Reads and writes move at most PIECE bytes, and every third call is interrupted.

#include "driver.h"
#include "driver_full.h"
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t piece;

static bool interrupted(void)
{
    static unsigned calls;
    return ++calls % 3 == 0;
}

ptrdiff_t ipi_read(void *bytes, size_t size)
{
    return interrupted() ? INTERRUPTED : read(0, bytes, size < piece ? size : piece);
}

ptrdiff_t ipi_write(const void *bytes, size_t size)
{
    return interrupted() ? INTERRUPTED : write(0, bytes, size < piece ? size : piece);
}

// Springs between each atom and the origin.
int ipi_compute(const double h[9], const double *positions, double *forces, size_t natoms, ipi_evaluation *evaluation)
{
    (void)h;
    memset(evaluation, 0, sizeof *evaluation);
    for (size_t atom = 0; atom < natoms; atom++)
        for (size_t i = 0; i < 3; i++) {
            const double *const r = positions + 3 * atom;
            forces[3 * atom + i] = -0.1 * r[i];
            evaluation->energy += 0.05 * (r[i] * r[i]);
            for (size_t j = 0; j < 3; j++)
                evaluation->virial[3 * i + j] -= 0.1 * (r[i] * r[j]);
        }
    return 0;
}

static const char *name(int result)
{
#define NAME(error) #error,
    static const char *const errors[] = {IPI_ERRORS(NAME)}, *const ends[] = {"Ok", "Exit", "Closed", "Init", "Positions"};
    return result < 0 ? errors[-1 - result] : ends[result];
}

static int drive(double *positions, double *forces, size_t capacity, size_t structures, uint8_t initialize)
{
    static ipi_driver driver;
    double *const cells = calloc(structures, MATRIX);
    ipi_evaluation *const evaluations = calloc(structures, sizeof *evaluations);
    ipi_text *const extras = calloc(structures, sizeof *extras);
    driver.initialize = initialize;
    ipi_reset(&driver);
    for (;;) {
        int result = ipi_receive(&driver, cells, structures, positions, capacity);
        if (result == IPI_INIT) {
            ipi_text key, value;
            printf("Init %d", driver.replica);
            for (size_t at = 0; ipi_parameter(&driver, &at, &key, &value);)
                printf(" %.*s=%.*s", (int)key.size, key.bytes, (int)value.size, value.bytes);
            puts("");
            continue;
        }
        if (result != IPI_POSITIONS)
            return result;
        const size_t count = driver.structures, natoms = (size_t)driver.natoms;
        for (size_t index = 0; index < count; index++) {
            ipi_compute(cells + 9 * index, positions + 3 * natoms * index, forces + 3 * natoms * index, natoms,
                        &evaluations[index]);
            extras[index] = (ipi_text){"{\"dipole\":1}", 3 * index};
        }
        result = ipi_reply(&driver, evaluations, count, forces, count * natoms, extras, count);
        if (result != IPI_OK)
            return result;
    }
}

static void print(const double *numbers, size_t count)
{
    for (; count > 0; count--, numbers++) {
        uint64_t bits;
        memcpy(&bits, numbers, sizeof bits);
        printf(" %016llx", (unsigned long long)bits);
    }
}

static int ask(ipi_server *server, size_t structures, size_t natoms, size_t steps, size_t room)
{
    static const double cells[4][9] = {
        {10, 1, 2, 0, 9, 3, 0, 0, 8}, {11, 0, 0, 0, 11, 0, 0, 0, 11}, {7, -2, 0.5, 0, 9, 3, 0, 0, 8}, {3, 1, 1, 0, 3, 1, 0, 0, 3}};
    const size_t atoms = structures * natoms;
    double *const positions = calloc(3 * atoms + 1, REAL), *const forces = calloc(3 * atoms + 1, REAL);
    ipi_answer *const answers = calloc(structures, sizeof *answers);
    char *const extras = malloc(room + 1);
    const ipi_request request = {-3, {"k:1", 3}, cells, positions, structures, natoms};
    const ipi_answers to = {answers, forces, extras, structures, atoms, room};
    ipi_server_reset(server);
    for (size_t step = 0; step < steps; step++) {
        for (size_t i = 0; i < 3 * atoms; i++)
            positions[i] = (double)i / 7 - (double)step;
        const int result = ipi_evaluate(server, &request, &to);
        if (result != IPI_OK)
            return result;
        for (size_t index = 0; index < structures; index++) {
            const ipi_answer *const answer = &answers[index];
            printf("Answer %.*s/%zu", (int)answer->extras_kept, extras + answer->extras_at, answer->extras_sent);
            print(&answer->evaluation.energy, 1);
            print(answer->evaluation.virial, 9);
            print(forces + 3 * natoms * index, 3 * natoms);
            puts("");
        }
    }
    return ipi_exit(server);
}

int main(int argc, char **argv)
{
    size_t numbers[8] = {0};
    for (int at = 2; at < argc && at < 10; at++)
        numbers[at - 2] = strtoul(argv[at], NULL, 10);
    piece = numbers[0];
    const size_t capacity = numbers[1];
    double *const positions = calloc(3 * capacity + 1, REAL), *const forces = calloc(3 * capacity + 1, REAL);
    int result;
    if (argc > 2 && strcmp(argv[1], "driver") == 0) {
        result = ipi_serve(positions, forces, capacity);
    } else if (argc > 4 && strcmp(argv[1], "full") == 0) {
        result = drive(positions, forces, capacity, numbers[2], (uint8_t)numbers[3]);
    } else if (argc > 8 && strcmp(argv[1], "server") == 0) {
        static ipi_server server;
        server.mode = (uint8_t)numbers[1];
        server.batch = (uint32_t)numbers[2];
        result = ask(&server, numbers[3], numbers[4], numbers[5], numbers[6]);
    } else {
        return 2;
    }
    puts(name(result));
    return 0;
}
