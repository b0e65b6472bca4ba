#include "line.h"

#include <stddef.h>
#include <string.h>

#include "clock.h"
#include "uart.h"

// The first byte of a frame. Only the board sends OPEN and ANSWER, only the host OPENED and PROBE.
enum kind { OPEN = 1, OPENED, CLOSE, PROBE, ANSWER, PART, LAST };
enum { DONE = 0, FAULT = 1 }; // the data of CLOSE

enum { END = 0, HEADER = 1, DATA = 4, CHECK = 4 }; // offsets in a frame, and the length of its checksum

// The size of a header in bytes. An answer to STATUS is only a header.
enum { HEADER_SIZE = 12 };

// Time limits in milliseconds.
enum { FRAME_LIMIT = 1000, SILENCE = 10000, REPEAT = 1000 };

// CRC-32C, the checksum of iSCSI.
static uint32_t checksum(const uint8_t *bytes, size_t size)
{
    uint32_t crc = 0xffffffff;
    while (size-- > 0) {
        crc ^= *bytes++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0x82f63b78 & -(crc & 1));
    }
    return ~crc;
}

// Sends a frame around the `size` bytes of data at frame[DATA].
static void put_frame(const line_t *line, uint8_t *frame, enum kind kind, uint8_t number, size_t size)
{
    frame[HEADER] = (uint8_t)kind;
    frame[HEADER + 1] = line->session;
    frame[HEADER + 2] = number;
    const size_t end = DATA + size;
    const uint32_t crc = checksum(frame + HEADER, end - HEADER);
    for (size_t i = 0; i < CHECK; i++)
        frame[end + i] = (uint8_t)(crc >> 8 * i);

    // Replace each zero by the distance to the next one.
    uint8_t distance = 1;
    for (size_t i = end + CHECK - 1; i >= HEADER; i--, distance++)
        if (frame[i] == END) {
            frame[i] = distance;
            distance = 0;
        }
    frame[0] = distance;

    // An empty frame ends a frame that an earlier program may have begun.
    if (kind == OPEN || kind == CLOSE)
        uart_put(END);
    for (size_t i = 0; i < end + CHECK; i++)
        uart_put(frame[i]);
    uart_put(END);
}

static void put_control(const line_t *line, enum kind kind, uint8_t number, int reason)
{
    uint8_t frame[DATA + 1 + CHECK];
    frame[DATA] = (uint8_t)reason;
    put_frame(line, frame, kind, number, kind == CLOSE);
}

// The kind of the received frame, or 0 if it was damaged. Its data are at in[DATA] afterwards.
static int unpack(line_t *line)
{
    uint8_t *frame = line->in, distance = frame[0];
    for (size_t i = HEADER; i < line->filled; i++)
        if (--distance == 0) {
            distance = frame[i];
            frame[i] = END;
        }
    if (distance != 1 || line->overlong || line->filled < DATA + CHECK)
        return 0;
    const size_t end = line->filled - CHECK, size = end - DATA;
    uint32_t crc = 0;
    for (size_t i = 0; i < CHECK; i++)
        crc |= (uint32_t)frame[end + i] << 8 * i;
    if (crc != checksum(frame + HEADER, end - HEADER))
        return 0;
    const int kind = frame[HEADER];
    const bool right = kind == PART || kind == LAST ? size > 0 : size == (kind == CLOSE);
    return kind >= OPEN && kind <= LAST && right ? kind : 0;
}

static int fail(line_t *line, int fault)
{
    line->open = false;
    line->fault = fault;
    put_control(line, CLOSE, line->leaving, FAULT);
    return fault;
}

// The kind of the next frame (0 if it was damaged), a fault of the UART or the line, or
// -FORCEWIRE_TIMED_OUT after this many milliseconds (0: never).
static int next_frame(line_t *line, uint32_t limit)
{
    const uint32_t start = clock_now();
    for (;;) {
        const uint32_t waited = clock_now() - start;
        if (limit > 0 && waited >= limit)
            return -FORCEWIRE_TIMED_OUT;
        const uint32_t silence = line->filled > 0 ? FRAME_LIMIT : SILENCE;
        const bool is_nearer = limit > 0 && limit - waited < silence;
        const int byte = uart_get(is_nearer ? limit - waited : silence);
        if (byte == UART_SILENT && is_nearer)
            return -FORCEWIRE_TIMED_OUT;
        if (byte == UART_SILENT)
            return line->filled > 0 ? LINE_CUT : LINE_SILENT;
        if (byte == UART_OVERRUN)
            return LINE_OVERRUN;
        if (byte != END) {
            if (line->filled < LINE_FRAME)
                line->in[line->filled++] = (uint8_t)byte;
            else
                line->overlong = true;
        } else if (line->filled == 0) {
            line->blank = true;
        } else {
            const int kind = unpack(line);
            line->data_end = (uint16_t)(line->filled - CHECK);
            // An empty frame is allowed before one that opens or closes. Between other frames it is
            // an extra byte.
            const bool right = !line->blank || kind == OPENED || kind == CLOSE;
            line->filled = 0;
            line->blank = line->overlong = false;
            return right ? kind : 0;
        }
    }
}

bool line_open(line_t *line, uint32_t patience)
{
    line->received = line->sent = line->replies = line->sent_before = 0;
    line->fault = 0;
    line->open = false;
    line->filled = line->data = line->data_end = line->gathered = 0;
    line->session = line->coming = line->leaving = 0;
    line->overlong = line->blank = false;
    line->opening++;
    const uint32_t start = clock_now();
    uint32_t waited = 0, repeat = 0;
    // Bytes before the answer belong to the previous connection.
    while (!line->open && waited < patience) {
        if (waited >= repeat) {
            put_control(line, OPEN, line->opening, 0);
            repeat = waited + REPEAT;
        }
        const uint32_t until = repeat < patience ? repeat : patience;
        const int kind = next_frame(line, until - waited);
        if (kind == LINE_CUT)
            line->filled = 0;
        if (kind == OPENED && line->in[HEADER + 2] == line->opening) {
            line->session = line->in[HEADER + 1];
            line->open = true;
        }
        waited = clock_now() - start;
    }
    return line->open;
}

void line_close(line_t *line)
{
    if (line->open)
        put_control(line, CLOSE, line->leaving, DONE);
    line->open = false;
}

// Reads frames until there are data, the connection ends, or `limit` milliseconds have passed (0:
// no limit).
static int wait_for_data(line_t *line, uint32_t limit)
{
    const uint32_t start = clock_now();
    while (line->data == line->data_end || line->data == 0) {
        const uint32_t waited = clock_now() - start;
        if (limit > 0 && waited >= limit)
            return -FORCEWIRE_TIMED_OUT;
        line->data = 0;
        const int kind = next_frame(line, limit > 0 ? limit - waited : 0);
        const uint8_t session = line->in[HEADER + 1], number = line->in[HEADER + 2];
        switch (kind) {
        case OPENED:
            if (session != line->session)
                return fail(line, LINE_RESTARTED);
            break; // the answer to an opening that was sent twice
        case CLOSE:
            if (line->in[DATA] != DONE) {
                line->open = false;
                return line->fault = LINE_REPORTED;
            }
            if (number != line->coming)
                return fail(line, LINE_LOST);
            line->open = false;
            return 0;
        case PROBE:
        case PART:
        case LAST:
            if (session != line->session)
                return fail(line, LINE_RESTARTED);
            if (number != line->coming)
                return fail(line, LINE_LOST);
            if (kind == PROBE) {
                put_control(line, ANSWER, line->leaving, 0);
            } else {
                line->coming++;
                line->data = DATA;
            }
            break;
        case -FORCEWIRE_TIMED_OUT:
            return kind;
        default:
            return fail(line, kind < 0 ? kind : LINE_DAMAGED);
        }
    }
    return 0;
}

static ptrdiff_t receive(void *context, void *bytes, size_t size, bool owed)
{
    line_t *line = context;
    if (!line->open)
        return line->fault;
    const int status = wait_for_data(line, owed ? line->patience : 0);
    if (status != 0 || !line->open)
        return status;
    const size_t here = (size_t)(line->data_end - line->data), n = size < here ? size : here;
    memcpy(bytes, line->in + line->data, n);
    line->data = (uint16_t)(line->data + n);
    line->received += (uint32_t)n;
    return (ptrdiff_t)n;
}

static void put_data(line_t *line, enum kind kind)
{
    put_frame(line, line->out, kind, line->leaving++, line->gathered);
    line->gathered = 0;
}

static ptrdiff_t transmit(void *context, const void *bytes, size_t size)
{
    line_t *line = context;
    if (line->fault != 0)
        return line->fault;
    if (line->gathered == LINE_DATA)
        put_data(line, PART);
    const size_t room = (size_t)(LINE_DATA - line->gathered), n = size < room ? size : room;
    memcpy(line->out + DATA + line->gathered, bytes, n);
    line->gathered = (uint16_t)(line->gathered + n);
    line->sent += (uint32_t)n;
    return (ptrdiff_t)n;
}

static int flush(void *context)
{
    line_t *line = context;
    if (line->gathered > 0 && line->open)
        put_data(line, LAST);
    line->replies += line->sent - line->sent_before > HEADER_SIZE;
    line->sent_before = line->sent;
    return line->fault;
}

forcewire_transport_t line_transport(line_t *line)
{
    return (forcewire_transport_t){.context = line, .recv = receive, .send = transmit, .flush = flush};
}
