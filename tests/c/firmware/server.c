// A server: the side that asks for forces.

#include "wire.h"

void image(void)
{
    const forcewire_cell_t cell = {{{10, 0, 0}, {0, 10, 0}, {0, 0, 10}}};
    forcewire_server_t server;
    forcewire_answer_t answer;
    char extras[64];
    tell(forcewire_server_init(&server, 0));
    forcewire_server_attach(&server, &wire);
    while (forcewire_server_evaluate(&server, &cell, (const double (*)[3])positions, forces, ATOMS, &answer, extras,
                                     sizeof extras) == FORCEWIRE_OK)
        tell((uintptr_t)answer.energy);
    tell(forcewire_server_exit(&server));
}
