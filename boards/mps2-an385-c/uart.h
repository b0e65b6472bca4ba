// UART 0 of the board. A ring holds received bytes while the core computes.

#ifndef UART_H
#define UART_H

#include <stdint.h>

enum { UART_RECEIVE = 0 }; // its interrupt: Arm DAI 0385D, table 3-5

void uart_start(void);

// The next byte; UART_SILENT if none arrived for this many milliseconds (0: waits forever),
// UART_OVERRUN if bytes were lost because the ring was full.
int uart_get(uint32_t patience);
enum { UART_SILENT = -1, UART_OVERRUN = -2 };

void uart_put(uint8_t byte);

// The interrupt handler.
void uart_received(void);

#endif
