// A driver that never asks for INIT: classic and consolidated messages.

#include "driver.h"

// Discards a text of the announced length.
static int skip(int32_t size)
{
    int result = size < 0 ? NegativeLength : IPI_OK;
    for (char byte; size > 0 && result == IPI_OK; size--)
        result = take(&byte, 1);
    return result;
}

int ipi_serve(double *positions, double *forces, size_t capacity)
{
    outgoing out;
    frame sent;
    ipi_evaluation evaluation;
    int32_t natoms = -1;
    bool computed = false;
    for (;;) {
        int header, result = take_header(&header);
        if (result != IPI_OK)
            return result;
        if (header == STATUS) {
            result = send(NAMES[computed ? HAVEDATA : READY], HEADER);
        } else if (header == INIT) {
            int32_t init[2]; // the replica, which does not matter here, and the text's length
            result = take(init, sizeof init);
            if (result == IPI_OK)
                result = skip(init[1]);
        } else if (header == POSDATA && !computed) {
            result = take(&sent, FRAME);
            if (result == IPI_OK && is_batch(&sent))
                result = UnannouncedBatch;
            if (result == IPI_OK)
                result = check_cell(sent.h);
            if (result == IPI_OK)
                result = check_atoms(&natoms, sent.natoms, capacity, false);
            if (result == IPI_OK)
                result = take_positions(positions, (size_t)natoms, false);
            if (result == IPI_OK && ipi_compute(sent.h, positions, forces, (size_t)natoms, &evaluation) != 0)
                result = Potential;
            // Energy and virial form one array of ten numbers.
            if (result == IPI_OK && !(finite(&evaluation.energy, 10) && finite(forces, 3 * (size_t)natoms)))
                result = NotFinite;
            computed = true;
        } else if (header == GETFORCE && computed) {
            const int32_t extras = 0;
            begin(&out, FORCEREADY);
            put(&out, &evaluation.energy, REAL);
            put(&out, &natoms, INTEGER);
            put(&out, forces, (size_t)natoms * ATOM);
            put(&out, evaluation.virial, MATRIX);
            put(&out, &extras, INTEGER);
            result = flush(&out);
            computed = false;
        } else {
            result = header == EXIT ? IPI_EXIT : OutOfTurn;
        }
        if (result != IPI_OK)
            return result;
    }
}
