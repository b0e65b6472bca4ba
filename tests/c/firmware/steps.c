// A driver step by step, with INIT and extras.

#include "wire.h"

void image(void)
{
    forcewire_driver_t driver;
    forcewire_event_t event;
    tell(forcewire_driver_init(&driver, FORCEWIRE_INIT_ONCE));
    forcewire_driver_attach(&driver, &wire);
    while (forcewire_driver_receive(&driver, positions, ATOMS, &event) == FORCEWIRE_OK) {
        size_t size;
        forcewire_evaluation_t evaluation = {0};
        switch (event.kind) {
        case FORCEWIRE_EVENT_INIT:
            tell((uintptr_t)forcewire_driver_init_text(&driver, &size) + size);
            break;
        case FORCEWIRE_EVENT_POSITIONS:
            potential(NULL, &event.cell, (const double (*)[3])positions, forces, event.natoms, &evaluation);
            tell(forcewire_driver_reply(&driver, &evaluation, (const double (*)[3])forces, event.natoms, "{}", 2));
            break;
        default:
            forcewire_driver_close(&driver);
        }
    }
}
