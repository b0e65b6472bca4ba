// The driver without the library.

#include "checked.h"
#include "wire.h"

void image(void)
{
    tell(checked_serve(&wire, potential, NULL, positions, forces, ATOMS));
}
