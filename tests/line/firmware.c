// The line of boards/mps2-an385-c with a host's file descriptors as its UART. It answers each
// message with the inverted bytes. A message is a length (32 bits, little-endian) and that many
// bytes; a length of zero ends the program. The end of each connection, recv's result, is printed
// to stderr.

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "line.h"
#include "uart.h"

uint32_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)(now.tv_sec * 1000 + now.tv_nsec / 1000000);
}

void uart_put(uint8_t byte)
{
    putchar(byte);
}

int uart_get(uint32_t patience)
{
    fflush(stdout);
    struct pollfd line = {.fd = 0, .events = POLLIN};
    if (poll(&line, 1, patience > 0 ? (int)patience : -1) <= 0)
        return UART_SILENT;
    uint8_t byte;
    if (read(0, &byte, 1) != 1)
        exit(1);
    return byte;
}

static ptrdiff_t take(const forcewire_transport_t *transport, uint8_t *bytes, size_t size, bool owed)
{
    for (size_t at = 0; at < size;) {
        const ptrdiff_t n = transport->recv(transport->context, bytes + at, size - at, owed || at > 0);
        if (n <= 0)
            return n;
        at += (size_t)n;
    }
    return 1;
}

static ptrdiff_t answer(const forcewire_transport_t *transport, bool *done)
{
    static uint8_t bytes[65536];
    uint8_t length[4];
    ptrdiff_t status = take(transport, length, sizeof length, false);
    const size_t size = length[0] | (size_t)length[1] << 8;
    *done = status > 0 && size == 0;
    if (status <= 0 || size == 0)
        return status;
    status = take(transport, bytes, size, true);
    if (status <= 0)
        return status;
    for (size_t at = 0; at < size; at++)
        bytes[at] = (uint8_t)~bytes[at];
    for (size_t at = 0; at < size;) {
        const ptrdiff_t n = transport->send(transport->context, bytes + at, size - at);
        if (n <= 0)
            return n;
        at += (size_t)n;
    }
    return transport->flush(transport->context) == 0 ? 1 : -1;
}

int main(void)
{
    line_t line = {.patience = 5000};
    const forcewire_transport_t transport = line_transport(&line);
    bool done = false;
    while (!done && line_open(&line, 5000)) {
        ptrdiff_t status;
        do
            status = answer(&transport, &done);
        while (status > 0 && !done);
        line_close(&line);
        fflush(stdout);
        fprintf(stderr, "%d\n", done ? 1 : (int)status);
    }
    return done ? 0 : 2;
}
