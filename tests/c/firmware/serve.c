// A driver that uses the library's loop.

#include "wire.h"

void image(void)
{
    forcewire_driver_t driver;
    tell(forcewire_driver_init(&driver, 0));
    forcewire_driver_attach(&driver, &wire);
    tell(forcewire_driver_serve(&driver, potential, NULL, positions, forces, ATOMS));
}
