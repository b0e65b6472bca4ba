// The start before main: the vector table, and the initialization of memory that C expects.

#include <stdbool.h>
#include <stdint.h>

#include "clock.h"
#include "semihosting.h"
#include "uart.h"

int main(void);
void reset(void);

// Symbols of link.ld; only their addresses have a meaning.
extern uint32_t stack_top[], stack_bottom[], data_start[], data_end[], data_in_flash[], bss_start[], bss_end[];

// Called with the address at which the core pushed its registers, or tried to.
_Noreturn void report_fault(const uint32_t *frame);
_Noreturn void report_fault(const uint32_t *frame)
{
    const bool has_overflowed = frame < stack_bottom || frame >= stack_top;
    semihosting_write(has_overflowed ? "the stack has overflowed\n" : "hard fault\n");
    semihosting_exit(102);
}

// Resets the stack pointer to the top, because the stack may be the cause, and a second fault would
// stop the core.
__attribute__((naked)) static void fault(void)
{
    __asm__ volatile("mrs r0, msp\n"
                     "ldr r1, =stack_top\n"
                     "mov sp, r1\n"
                     "b report_fault\n");
}

typedef void (*handler_t)(void);

// The core's 15 exceptions, then the interrupts of Arm DAI 0385D, table 3-5. Interrupts without a
// name stay masked.
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

// Armv7-M ARM, B3.5.
static volatile struct {
    uint32_t type, control, number, base, attributes;
} *const mpu = (void *)0xe000ed90;

// Closes the megabyte below the stack, which is outside the memory: QEMU ignores writes there.
static void guard_stack(void)
{
    enum { CLOSED = 20 }; // log2 of its bytes
    mpu->number = 0;
    mpu->base = (uintptr_t)stack_bottom - (1u << CLOSED);
    mpu->attributes = 1u << 28 | (CLOSED - 1) << 1 | 1; // no access, enabled
    mpu->control = 1u << 2 | 1;                         // all else is as without an MPU
    __asm__ volatile("dsb\nisb" ::: "memory");
}

void reset(void)
{
    guard_stack();
    for (uint32_t *to = data_start, *from = data_in_flash; to < data_end;)
        *to++ = *from++;
    for (uint32_t *to = bss_start; to < bss_end;)
        *to++ = 0;
    semihosting_exit(main());
}
