// Milliseconds since the start, from SysTick.

#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

void clock_start(void);

// Wraps after 49 days; differences stay correct. Don't call it while interrupts are masked.
uint32_t clock_now(void);

// The interrupt handler.
void clock_tick(void);

#endif
