// A serial line as forcewire's transport, with `bridge` at its other end.
//
// A UART moves bytes and nothing else. But a server must get a message whole (i-PI drops a driver whose answer to
// STATUS comes in two TCP segments), and a driver must know that its server has gone, or it takes what the next one
// says for the rest of a message. So there are marks between the bytes, escaped as in SLIP (RFC 1055):
//
//     C0       from the board: the message is whole, send it
//     DB DC    the byte C0
//     DB DD    the byte DB
//     DB 01    from the board: connect to a server, and hang up before if there is one; from the bridge: done
//     DB 04    from either: the connection is closed

#ifndef LINE_H
#define LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "forcewire.h"

typedef struct {
    // How long the peer may be silent when it owes something, in milliseconds.
    uint32_t patience;
    // Bytes of the protocol since the line was opened.
    uint32_t received, sent;
    // Private: 0, or what recv returns from now on; and whether a message has begun that no END has ended.
    int fault;
    bool open, begun;
} line_t;

// Has the bridge connect to a server, and waits for that so many milliseconds.
bool line_open(line_t *line, uint32_t patience);

void line_close(line_t *line);

// What forcewire_driver_attach() wants. The line must stay where it is.
forcewire_transport_t line_transport(line_t *line);

#endif
