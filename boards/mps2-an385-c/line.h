// A serial line as forcewire's transport: the board's end of forcewire::line, whose documentation
// (src/line/mod.rs) defines the frames, with reasons. At the other end is `forcewire bridge`.
//
// A UART moves bytes and may lose or change some; it has no connection and no end of a message. The
// line brings these in frames with a checksum. Damaged or lost bytes end the connection with a
// fault, on both sides, within a second if both read.

#ifndef LINE_H
#define LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "forcewire.h"

// What ends a connection; recv and send return it, and forcewire_driver_error() shows it.
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
    // How long the peer may be silent when it owes something, in milliseconds.
    uint32_t patience;
    // Bytes of the protocol since the line was opened.
    uint32_t received, sent;
    // Messages since then that were more than a header, which are replies, and what had been sent
    // before this one.
    uint32_t replies, sent_before;
    // Private: a fault, or 0.
    int fault;
    bool open;
    // The number of this connection, and of the next frames in both directions.
    uint8_t opening, session, coming, leaving;
    // The frame that comes, without its end, and what of its data has not been read.
    uint8_t in[LINE_FRAME];
    uint16_t filled, data, data_end;
    bool overlong, blank;
    // The frame that grows.
    uint8_t out[LINE_FRAME];
    uint16_t gathered;
} line_t;

// Has the host connect to a server, and waits for that for at most `patience` milliseconds.
bool line_open(line_t *line, uint32_t patience);

// Ends the connection; the host hangs up.
void line_close(line_t *line);

// What forcewire_driver_attach() wants. The line must stay where it is.
forcewire_transport_t line_transport(line_t *line);

#endif
