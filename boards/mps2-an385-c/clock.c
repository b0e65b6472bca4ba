#include "clock.h"

enum { CORE_HZ = 25000000 }; // QEMU 7.2, hw/arm/mps2.c

// Armv7-M ARM, B3.3.
static volatile struct {
    uint32_t control, reload, current;
} *const systick = (void *)0xe000e010;
enum { ENABLE = 1, INTERRUPT = 2, CORE_CLOCK = 4 };

static volatile uint32_t milliseconds;

void clock_start(void)
{
    systick->reload = CORE_HZ / 1000 - 1;
    systick->current = 0;
    systick->control = ENABLE | INTERRUPT | CORE_CLOCK;
}

uint32_t clock_now(void)
{
    return milliseconds;
}

void clock_tick(void)
{
    milliseconds++;
}
