// A driver that uses the library's loop and prints errors.

#include "wire.h"

void image(void)
{
    static char text[256];
    forcewire_driver_t driver;
    tell(forcewire_driver_init(&driver, 0));
    forcewire_driver_attach(&driver, &wire);
    tell(forcewire_driver_serve(&driver, potential, NULL, positions, forces, ATOMS));
    tell((uintptr_t)forcewire_driver_error(&driver, text, sizeof text));
}
