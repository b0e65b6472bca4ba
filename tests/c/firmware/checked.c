#include "checked.h"

#include <string.h>

enum { HEADER = 12 };

// Reads this many bytes. Returns 1, 0 if the stream ends before the first byte, or -1.
static int hear(const forcewire_transport_t *wire, void *bytes, size_t size)
{
    size_t at = 0;
    while (at < size) {
        const ptrdiff_t n = wire->recv(wire->context, (char *)bytes + at, size - at, true);
        if (n <= 0)
            return n == 0 && at == 0 ? 0 : -1;
        at += (size_t)n;
    }
    return 1;
}

static bool say(const forcewire_transport_t *wire, const void *bytes, size_t size)
{
    size_t at = 0;
    while (at < size) {
        const ptrdiff_t n = wire->send(wire->context, (const char *)bytes + at, size - at);
        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

checked_t checked_serve(const forcewire_transport_t *wire, forcewire_potential_t potential, void *context,
                        double (*positions)[3], double (*forces)[3], int32_t capacity)
{
    char header[HEADER];
    forcewire_cell_t cell, inverse;
    forcewire_evaluation_t evaluation;
    int32_t number, natoms = 0;
    bool computed = false;
    for (;;) {
        const int heard = hear(wire, header, HEADER);
        if (heard <= 0)
            return heard == 0 ? CHECKED_CLOSED : CHECKED_FAILED;
        if (memcmp(header, "STATUS      ", HEADER) == 0) {
            if (!say(wire, computed ? "HAVEDATA    " : "READY       ", HEADER) || wire->flush(wire->context) != 0)
                return CHECKED_FAILED;
        } else if (memcmp(header, "POSDATA     ", HEADER) == 0) {
            // The inverse cell is not used, because servers do not agree on it.
            if (hear(wire, &cell, sizeof cell) != 1 || hear(wire, &inverse, sizeof inverse) != 1 ||
                hear(wire, &natoms, sizeof natoms) != 1 || natoms < 0 || natoms > capacity)
                return CHECKED_FAILED;
            const size_t size = (size_t)natoms * sizeof *positions;
            if (size > 0 && hear(wire, positions, size) != 1)
                return CHECKED_FAILED;
            memset(forces, 0, size);
            memset(&evaluation, 0, sizeof evaluation);
            if (potential(context, &cell, (const double (*)[3])positions, forces, (size_t)natoms, &evaluation) != 0)
                return CHECKED_FAILED;
            computed = true;
        } else if (memcmp(header, "GETFORCE    ", HEADER) == 0 && computed) {
            number = 0; // bytes of extras
            if (!say(wire, "FORCEREADY  ", HEADER) || !say(wire, &evaluation.energy, sizeof evaluation.energy) ||
                !say(wire, &natoms, sizeof natoms) || !say(wire, forces, (size_t)natoms * sizeof *forces) ||
                !say(wire, evaluation.virial, sizeof evaluation.virial) || !say(wire, &number, sizeof number) ||
                wire->flush(wire->context) != 0)
                return CHECKED_FAILED;
            computed = false;
        } else if (memcmp(header, "INIT        ", HEADER) == 0) {
            // The replica, which is ignored, and then the length.
            if (hear(wire, &number, sizeof number) != 1 || hear(wire, &number, sizeof number) != 1 || number < 0)
                return CHECKED_FAILED;
            for (; number > 0; number--)
                if (hear(wire, header, 1) != 1)
                    return CHECKED_FAILED;
        } else if (memcmp(header, "EXIT        ", HEADER) == 0) {
            return CHECKED_EXIT;
        } else {
            return CHECKED_FAILED;
        }
    }
}
