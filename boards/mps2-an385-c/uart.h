// UART 0 of the board: received bytes wait in a ring while the core computes.

#ifndef UART_H
#define UART_H

#include <stdint.h>

enum { UART_RECEIVE = 0 }; // its interrupt: Arm DAI 0385D, table 3-5

void uart_start(void);

// The next byte; UART_SILENT if none came for this many milliseconds (0: waits forever),
// UART_OVERRUN if one came that was not taken in time.
int uart_get(uint32_t patience);
enum { UART_SILENT = -1, UART_OVERRUN = -2 };

void uart_put(uint8_t byte);

// The interrupt.
void uart_received(void);

#endif
