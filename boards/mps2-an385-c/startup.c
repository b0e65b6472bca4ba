// What runs before main: the vector table, and memory as C expects it.

#include <stdint.h>

#include "clock.h"
#include "semihosting.h"
#include "uart.h"

int main(void);
void reset(void);

// Of link.ld; only their addresses mean anything.
extern uint32_t stack_top[], data_start[], data_end[], data_in_flash[], bss_start[], bss_end[];

static _Noreturn void fault(void)
{
    semihosting_write("hard fault\n");
    semihosting_exit(102);
}

typedef void (*handler_t)(void);

// The core's own 15 exceptions, then the interrupts of Arm DAI 0385D, table 3-5. What is not named stays masked.
struct vectors {
    uint32_t *stack;
    handler_t core[15];
    handler_t external[32];
};

__attribute__((section(".vectors"), used)) static const struct vectors vectors = {
    .stack = stack_top,
    .core = {
        [0] = reset, // exception 1
        [1] = fault, // NMI
        [2] = fault, // HardFault, which the others become
        [14] = clock_tick, // SysTick
    },
    .external = {[UART_RECEIVE] = uart_received},
};

void reset(void)
{
    for (uint32_t *to = data_start, *from = data_in_flash; to < data_end;)
        *to++ = *from++;
    for (uint32_t *to = bss_start; to < bss_end;)
        *to++ = 0;
    semihosting_exit(main());
}
