// A serial line as forcewire's transport: the board's end of forcewire::line. Its documentation
// (src/line/mod.rs) defines the frames and gives the reasons. The other end is `forcewire bridge`.
//
// A UART moves bytes and may lose or change some; it has no connection and no end of a message. The
// line adds these with frames and a checksum. Damaged or lost bytes end the connection with a fault
// at both ends, within a second if both read.

#ifndef LINE_H
#define LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "forcewire.h"

// The faults that end a connection. recv and send return them, and forcewire_driver_error() shows
// them.
enum {
    LINE_OVERRUN = -101,   // the UART has lost a byte
    LINE_DAMAGED = -102,   // a checksum is wrong, or what came is no frame
    LINE_LOST = -103,      // a whole frame was lost
    LINE_CUT = -104,       // a frame stopped halfway
    LINE_SILENT = -105,    // nothing came for ten seconds; the host sends something every second
    LINE_RESTARTED = -106, // the host has begun another connection
    LINE_REPORTED = -107,  // the host has found a fault, or has started again
};

enum { LINE_DATA = 240, LINE_FRAME = 1 + 3 + LINE_DATA + 4 };

typedef struct {
    // How long the peer may be silent while it owes something, in milliseconds.
    uint32_t patience;
    // How many bytes of the protocol have moved since the line was opened.
    uint32_t received, sent;
    // How many messages since then were longer than a header, which makes them replies; and how
    // many bytes had been sent before the current message.
    uint32_t replies, sent_before;
    // Private: a fault, or 0.
    int fault;
    bool open;
    // The number of this connection, and the numbers of the next frames in both directions.
    uint8_t opening, session, coming, leaving;
    // The incoming frame without its end, and the unread part of its data.
    uint8_t in[LINE_FRAME];
    uint16_t filled, data, data_end;
    bool overlong, blank;
    // The outgoing frame, while it grows.
    uint8_t out[LINE_FRAME];
    uint16_t gathered;
} line_t;

// Asks the host to connect to a server, and waits for at most `patience` milliseconds.
bool line_open(line_t *line, uint32_t patience);

// Ends the connection; the host closes its connection to the server.
void line_close(line_t *line);

// A transport for forcewire_driver_attach(). The line must not be moved.
forcewire_transport_t line_transport(line_t *line);

#endif
