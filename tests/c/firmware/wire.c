#include "wire.h"

static volatile uint32_t *const registers = (void *)0x40000000;

double positions[ATOMS][3], forces[ATOMS][3];

static ptrdiff_t receive(void *context, void *bytes, size_t size, bool owed)
{
    (void)context;
    *(uint8_t *)bytes = (uint8_t)*registers;
    *registers = (uint32_t)size | owed;
    return (ptrdiff_t)*registers;
}

static ptrdiff_t transmit(void *context, const void *bytes, size_t size)
{
    (void)context;
    *registers = *(const uint8_t *)bytes + (uint32_t)size;
    return (ptrdiff_t)*registers;
}

static int flush(void *context)
{
    (void)context;
    return (int)*registers;
}

const forcewire_transport_t wire = {.recv = receive, .send = transmit, .flush = flush};

int potential(void *context, const forcewire_cell_t *cell, const double (*at)[3], double (*force)[3], size_t natoms,
              forcewire_evaluation_t *evaluation)
{
    (void)context;
    (void)at;
    (void)force;
    (void)evaluation;
    *registers = (uint32_t)natoms + (uint32_t)(uintptr_t)cell;
    return (int)*registers;
}

void tell(uintptr_t number)
{
    *registers = (uint32_t)number;
}
