// The i-PI socket protocol in plain C: the common part of driver.c, driver_full.c and server.c.
//
// The programs accept and refuse the same as the Rust core, so that their sizes can be compared
// (tests/images/run). They differ in four ways: a call blocks until it is done and can't be
// resumed, an error is a number without details, traffic isn't counted, and an array that is too
// short is a final error.
//
// For little-endian devices only. The transport consists of two functions that the program defines.

#ifndef IPI_H
#define IPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "numbers are moved as they are in memory, and the wire is little-endian"
#endif

// Move at least one byte. They return how many, 0 at the end of the stream, INTERRUPTED to be
// called again, or another negative number if the transport failed.
enum { INTERRUPTED = -4 };
ptrdiff_t ipi_read(void *bytes, size_t size);
ptrdiff_t ipi_write(const void *bytes, size_t size);

// Freestanding compilers need these from the program. Their size is not counted.
void *memcpy(void *restrict to, const void *restrict from, size_t size);
int memcmp(const void *a, const void *b, size_t size);

// Errors are negative and named like the variants of Rust's ProtocolError.
#define IPI_ERRORS(X)                                                                                                  \
    X(Transport) X(EndOfStream) X(UnknownHeader) X(OutOfTurn) X(NegativeAtoms) X(AtomsChanged) X(TooManyAtoms)         \
    X(TooManyStructures) X(UnannouncedBatch) X(BigEndian) X(NegativeLength) X(NotFinite) X(Potential)                  \
    X(NothingToReplyTo) X(WrongLength) X(TextTooLong) X(InvalidStatus) X(UnexpectedAnswer) X(Unanswered)               \
    X(WrongAtoms) X(SingularCell) X(NotUpperTriangular)

#define IPI_NUMBER(name) Count##name,
enum { IPI_ERRORS(IPI_NUMBER) IPI_ERROR_COUNT };
#define IPI_ERROR(name) name = -1 - Count##name,
enum { IPI_ERRORS(IPI_ERROR) };

// The results of a call without an error.
enum { IPI_OK, IPI_EXIT, IPI_CLOSED, IPI_INIT, IPI_POSITIONS };

// Hartree. The virial is row-major, as on the wire.
typedef struct {
    double energy, virial[9];
} ipi_evaluation;

typedef struct {
    const char *bytes;
    size_t size;
} ipi_text;

enum { HEADER = 12, INTEGER = 4, REAL = 8, ATOM = 24, MATRIX = 72, SCRATCH = 768 };

enum { STATUS, INIT, POSDATA, GETFORCE, EXIT, NEEDINIT, READY, HAVEDATA, FORCEREADY, HEADERS };

static const char NAMES[HEADERS][HEADER] = {
    "STATUS      ", "INIT        ", "POSDATA     ", "GETFORCE    ", "EXIT        ",
    "NEEDINIT    ", "READY       ", "HAVEDATA    ", "FORCEREADY  ",
};

// A program may use only some of the functions below.
#define SHARED static __attribute__((unused))

// Words of numbers, read to check exponents without software floating point.
typedef uint32_t __attribute__((may_alias)) word;

// POSDATA of one structure, without its positions.
typedef struct {
    double h[9], inverse[9];
    int32_t natoms;
} frame;
enum { FRAME = 2 * MATRIX + INTEGER };

// Reads this many bytes.
SHARED int take(void *to, size_t size)
{
    for (char *at = to; size > 0;) {
        const ptrdiff_t n = ipi_read(at, size);
        if (n == INTERRUPTED)
            continue;
        if (n <= 0)
            return n == 0 ? EndOfStream : Transport;
        at += n;
        size -= (size_t)n;
    }
    return IPI_OK;
}

// Reads a header and finds its number. IPI_CLOSED if the stream ends before it.
SHARED int take_header(int *header)
{
    char bytes[HEADER];
    ptrdiff_t n;
    do
        n = ipi_read(bytes, HEADER);
    while (n == INTERRUPTED);
    if (n <= 0)
        return n == 0 ? IPI_CLOSED : Transport;
    const int result = take(bytes + n, HEADER - (size_t)n);
    if (result != IPI_OK)
        return result;
    // Some peers pad with NULs.
    for (char *end = bytes + HEADER; end > bytes && (end[-1] == ' ' || end[-1] == 0); end--)
        end[-1] = ' ';
    for (*header = 0; *header < HEADERS; ++*header)
        if (memcmp(bytes, NAMES[*header], HEADER) == 0)
            return IPI_OK;
    return UnknownHeader;
}

SHARED int send(const void *from, size_t size)
{
    for (const char *at = from; size > 0;) {
        const ptrdiff_t n = ipi_write(at, size);
        if (n == INTERRUPTED)
            continue;
        if (n <= 0)
            return Transport;
        at += n;
        size -= (size_t)n;
    }
    return IPI_OK;
}

// Bytes for one write: pieces are collected as long as they fit.
typedef struct {
    int result;
    size_t size;
    char bytes[SCRATCH];
} outgoing;

SHARED int flush(outgoing *out)
{
    if (out->result == IPI_OK)
        out->result = send(out->bytes, out->size);
    out->size = 0;
    return out->result;
}

SHARED void put(outgoing *out, const void *piece, size_t size)
{
    if (size > SCRATCH - out->size)
        flush(out);
    if (size <= SCRATCH) {
        memcpy(out->bytes + out->size, piece, size);
        out->size += size;
    } else if (out->result == IPI_OK) {
        out->result = send(piece, size);
    }
}

SHARED void begin(outgoing *out, int header)
{
    out->result = IPI_OK;
    out->size = 0;
    put(out, NAMES[header], HEADER);
}

// Whether all numbers are finite.
SHARED bool finite(const double *numbers, size_t count)
{
    const word *high = (const word *)numbers + 1;
    for (; count > 0; count--, high += 2)
        if ((*high & 0x7ff00000) == 0x7ff00000)
            return false;
    return true;
}

// Whether an exponent is plausible for a length: 2^-64 to 2^64.
SHARED bool sized(uint32_t exponent)
{
    return exponent - (1023 - 64) <= 128;
}

// Whether lengths have been sent big-endian: all are plausible with their bytes reversed, and some
// are not in their present order.
SHARED bool big_endian(const double *lengths, size_t count)
{
    const word *words = (const word *)lengths;
    bool odd = false;
    for (; count > 0; count--, words += 2) {
        const uint32_t low = words[0], high = words[1];
        const bool zero = ((low & ~0x80u) | high) == 0;
        if (!zero && !sized((low & 0x7f) << 4 | (low >> 12 & 0xf)))
            return false;
        if ((low | high << 1) != 0 && (high >> 20 & 0x7ff) - (1023 - 256) > 512)
            odd = true;
    }
    return odd;
}

// Whether POSDATA of one structure can only be the beginning of a batch, in which the number of
// atoms comes first: read four bytes later, its cell and inverse cell are upper triangular.
SHARED bool is_batch(const frame *sent)
{
    const word *words = (const word *)sent;
    if ((int32_t)*words++ <= 0)
        return false;
    for (int matrix = 0; matrix < 2; matrix++)
        for (int row = 0; row < 3; row++)
            for (int column = 0; column < 3; column++, words += 2) {
                if (column < row && (words[0] | words[1] << 1) != 0)
                    return false;
                if (column == row && !sized(words[1] >> 20 & 0x7ff))
                    return false;
            }
    return true;
}

SHARED int check_cell(const double *h)
{
    if (big_endian(h, 9))
        return BigEndian;
    return finite(h, 9) ? IPI_OK : NotFinite;
}

// Checks a number of atoms; *natoms is the previous structure's, or -1 if there was none.
SHARED int check_atoms(int32_t *natoms, int32_t announced, size_t capacity, bool changing)
{
    if (announced < 0)
        return NegativeAtoms;
    if (*natoms >= 0 && *natoms != announced && !changing)
        return AtomsChanged;
    *natoms = announced;
    return (size_t)announced <= capacity ? IPI_OK : TooManyAtoms;
}

// Reads positions and checks them.
SHARED int take_positions(double *positions, size_t natoms, bool not_finite)
{
    const int result = take(positions, natoms * ATOM);
    if (result != IPI_OK || not_finite)
        return result;
    // The first atoms show the byte order.
    if (big_endian(positions, 3 * (natoms < 16 ? natoms : 16)))
        return BigEndian;
    return finite(positions, 3 * natoms) ? IPI_OK : NotFinite;
}

#endif
