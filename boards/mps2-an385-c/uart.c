#include "uart.h"

#include <stdbool.h>

#include "clock.h"

// CMSDK APB UART: Arm DDI 0479D, 4.3.
static volatile struct {
    uint32_t data, state, control, interrupt, divider;
} *const uart = (void *)0x40004000;
enum { TX_FULL = 1, RX_FULL = 2, RX_OVERRUN = 8 };                   // state
enum { TX_ENABLE = 1, RX_ENABLE = 2, RX_INTERRUPT = 8 };             // control
enum { RX_PENDING = 2 };                                             // interrupt; written to clear it
enum { CLOCK_HZ = 25000000, BAUD = 115200 };

static volatile uint32_t *const nvic_enable = (void *)0xe000e100;

// Only the interrupt changes `head`, only the reader `tail`; both count up and wrap.
enum { ROOM = 4096 }; // a power of two
static volatile uint8_t ring[ROOM];
static volatile uint32_t head, tail;
static volatile bool overrun;

void uart_start(void)
{
    uart->divider = CLOCK_HZ / BAUD;
    uart->control = TX_ENABLE | RX_ENABLE | RX_INTERRUPT;
    *nvic_enable = 1u << UART_RECEIVE;
}

void uart_received(void)
{
    uart->interrupt = RX_PENDING;
    while (uart->state & RX_FULL) {
        if (head - tail == ROOM) {
            // The byte stays in the UART until there is room. QEMU sends no other byte before that;
            // over a cable without RTS and CTS the next one is an overrun.
            uart->control &= ~(uint32_t)RX_INTERRUPT;
            break;
        }
        ring[head % ROOM] = (uint8_t)uart->data;
        head++;
    }
    if (uart->state & RX_OVERRUN) {
        uart->state = RX_OVERRUN;
        overrun = true;
    }
}

int uart_get(uint32_t patience)
{
    const uint32_t start = clock_now();
    while (head == tail) {
        if (patience && clock_now() - start >= patience)
            return UART_SILENT;
        // A byte that arrives between the check and the sleep is pending and ends the sleep: masked
        // interrupts still wake the core.
        __asm__ volatile("cpsid i" ::: "memory");
        if (head == tail)
            __asm__ volatile("wfi" ::: "memory");
        __asm__ volatile("cpsie i" ::: "memory");
    }
    if (overrun) {
        overrun = false;
        return UART_OVERRUN;
    }
    const uint8_t byte = ring[tail % ROOM];
    tail++;
    if (!(uart->control & RX_INTERRUPT)) {
        uart->control |= RX_INTERRUPT;
        // The interrupt for the byte that waits in the UART has already occurred.
        __asm__ volatile("cpsid i" ::: "memory");
        uart_received();
        __asm__ volatile("cpsie i" ::: "memory");
    }
    return byte;
}

void uart_put(uint8_t byte)
{
    while (uart->state & TX_FULL)
        ;
    uart->data = byte;
}
