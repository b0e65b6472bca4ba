#include "clock.h"

enum { CORE_HZ = 25000000 }; // QEMU 7.2, hw/arm/mps2.c

// Armv7-M ARM, B3.3.
static volatile struct {
    uint32_t control, reload, current;
} *const systick = (void *)0xe000e010;
enum { ENABLE = 1, INTERRUPT = 2, CORE_CLOCK = 4 };

static volatile uint32_t *const icsr = (void *)0xe000ed04;
enum { PENDSTSET = 1 << 26 };

// A tick ends each sleep. Twenty ticks a second cost an emulated board 0.2 % of its host's core, a
// thousand 7 %.
enum { TICK_MS = 50, TICK = CORE_HZ / 1000 * TICK_MS };

static volatile uint32_t ticks;

void clock_start(void)
{
    systick->reload = TICK - 1;
    systick->current = 0;
    systick->control = ENABLE | INTERRUPT | CORE_CLOCK;
    // The counter starts at 0, which is also the end of a tick.
    while (systick->current == 0)
        ;
}

uint32_t clock_now(void)
{
    uint32_t before, current;
    // Read again if a tick occurred in between, or has occurred and has not been counted.
    do {
        before = ticks;
        current = systick->current;
    } while ((*icsr & PENDSTSET) || before != ticks);
    return before * TICK_MS + (TICK - 1 - current) / (CORE_HZ / 1000);
}

void clock_tick(void)
{
    ticks++;
}
