#include "line.h"

#include "clock.h"
#include "uart.h"

enum { END = 0xc0, ESCAPE = 0xdb, ESCAPED_END = 0xdc, ESCAPED_ESCAPE = 0xdd };

// What follows ESCAPE, as numbers that are no byte.
enum { MARK = 0x100, OPENED = MARK | 0x01, CLOSED = MARK | 0x04 };

// What recv returns, and -FORCEWIRE_TIMED_OUT. forcewire_driver_error() tells them.
enum { OVERRUN = -101, NONSENSE = -102 };

static void put_mark(int mark)
{
    uart_put(ESCAPE);
    uart_put((uint8_t)mark);
}

// A byte of the stream, a mark, or what went wrong.
static int get(uint32_t patience)
{
    int byte = uart_get(patience);
    if (byte == ESCAPE) {
        byte = uart_get(patience);
        switch (byte) {
        case ESCAPED_END: return END;
        case ESCAPED_ESCAPE: return ESCAPE;
        case OPENED & ~MARK: return OPENED;
        case CLOSED & ~MARK: return CLOSED;
        }
        if (byte >= 0)
            return NONSENSE;
    }
    switch (byte) {
    case UART_SILENT: return -FORCEWIRE_TIMED_OUT;
    case UART_OVERRUN: return OVERRUN;
    default: return byte;
    }
}

bool line_open(line_t *line, uint32_t patience)
{
    line->received = line->sent = 0;
    line->fault = 0;
    line->begun = line->open = false;
    put_mark(OPENED);
    const uint32_t start = clock_now();
    uint32_t waited = 0;
    // What comes before the answer belongs to the connection before.
    while (!line->open && waited < patience) {
        line->open = get(patience - waited) == OPENED;
        waited = clock_now() - start;
    }
    return line->open;
}

void line_close(line_t *line)
{
    put_mark(CLOSED);
    line->open = false;
}

static ptrdiff_t receive(void *context, void *bytes, size_t size, bool owed)
{
    line_t *line = context;
    uint8_t *to = bytes;
    size_t n = 0;
    while (n < size && line->open && line->fault == 0) {
        const int byte = get(owed || n > 0 ? line->patience : 0);
        if (byte == -FORCEWIRE_TIMED_OUT) {
            // What has come is not lost: the call may be made again.
            if (n == 0)
                return byte;
            break;
        } else if (byte == CLOSED || byte == OPENED) {
            line->open = false;
        } else if (byte < 0) {
            line->fault = byte;
        } else {
            to[n++] = (uint8_t)byte;
            line->received++;
        }
    }
    return n > 0 ? (ptrdiff_t)n : line->fault;
}

static ptrdiff_t transmit(void *context, const void *bytes, size_t size)
{
    line_t *line = context;
    const uint8_t *from = bytes;
    for (size_t i = 0; i < size; i++)
        switch (from[i]) {
        case END: put_mark(ESCAPED_END); break;
        case ESCAPE: put_mark(ESCAPED_ESCAPE); break;
        default: uart_put(from[i]);
        }
    line->sent += size;
    line->begun = true;
    return (ptrdiff_t)size;
}

static int flush(void *context)
{
    line_t *line = context;
    if (line->begun)
        uart_put(END);
    line->begun = false;
    return 0;
}

forcewire_transport_t line_transport(line_t *line)
{
    return (forcewire_transport_t){.context = line, .recv = receive, .send = transmit, .flush = flush};
}
