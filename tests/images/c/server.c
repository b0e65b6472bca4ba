// A server: status, INIT, single structures and batches, forces, extras.

#include "server.h"

static const char BATCH_SIZE[] = " batch_size:";

void ipi_server_reset(ipi_server *server)
{
    server->phase = UNKNOWN;
    server->initialized = false;
    server->error = IPI_OK;
    server->natoms = -1;
    server->carried = 1;
}

// An error that is final for the connection.
static int fail(ipi_server *server, int error)
{
    server->phase = GONE;
    server->error = error;
    return error;
}

// Sends the collected bytes and sets the driver's phase.
static int leave(ipi_server *server, int phase)
{
    const int result = flush(&server->out);
    if (result != IPI_OK)
        return fail(server, result);
    server->phase = (uint8_t)phase;
    return IPI_OK;
}

static void put_header(ipi_server *server, int header)
{
    put(&server->out, NAMES[header], HEADER);
}

static int ask(ipi_server *server)
{
    begin(&server->out, STATUS);
    return leave(server, ASKED);
}

// Reads the answer to the last request.
static int hear(ipi_server *server)
{
    int header;
    const int result = take_header(&header);
    if (result != IPI_OK)
        return fail(server, result == IPI_CLOSED ? Unanswered : result);
    const bool asked = server->phase == ASKED;
    if (asked && header == READY)
        server->phase = DRIVER_IS_READY;
    else if (asked && header == NEEDINIT && !server->initialized)
        server->phase = NEEDS_INIT;
    else if (server->phase == COMPUTING && header == HAVEDATA)
        server->phase = HAS_FORCES;
    else if (server->phase != AWAITING || header != FORCEREADY)
        return fail(server, UnexpectedAnswer);
    server->initialized = false;
    return IPI_OK;
}

// The error for a call that is out of turn.
static int out_of_turn(const ipi_server *server)
{
    return server->error != IPI_OK ? server->error : InvalidStatus;
}

int ipi_status(ipi_server *server)
{
    const int phase = server->phase;
    int result = IPI_OK;
    if (phase == UNKNOWN || ((phase == DRIVER_IS_READY || phase == NEEDS_INIT) && server->mode != STRICT))
        result = ask(server);
    if (result == IPI_OK && (server->phase == ASKED || server->phase == COMPUTING))
        result = hear(server);
    return result != IPI_OK ? result : server->phase;
}

int ipi_initialize(ipi_server *server, int32_t replica, ipi_text text)
{
    if (server->phase != NEEDS_INIT)
        return out_of_turn(server);
    // An empty text ends drivers built on i-PI's C sockets.
    if (text.size == 0)
        text = (ipi_text){" ", 1};
    char added[sizeof BATCH_SIZE + 12], *end = added;
    if (server->batch > 1) {
        bool blank = true;
        for (size_t at = 0; at < text.size; at++)
            blank = blank && (text.bytes[at] == ' ' || (uint8_t)(text.bytes[at] - '\t') < 5);
        if (!blank)
            *end++ = ',';
        memcpy(end, BATCH_SIZE, sizeof BATCH_SIZE - 1);
        end += sizeof BATCH_SIZE - 1;
        uint32_t power = 1;
        while (server->batch / power >= 10)
            power *= 10;
        for (; power > 0; power /= 10)
            *end++ = (char)('0' + server->batch / power % 10);
    }
    const size_t more = (size_t)(end - added);
    if (text.size > INT32_MAX - more)
        return TextTooLong;
    const int32_t init[2] = {replica, (int32_t)(text.size + more)};
    begin(&server->out, INIT);
    put(&server->out, init, sizeof init);
    put(&server->out, text.bytes, text.size);
    put(&server->out, added, more);
    put_header(server, STATUS);
    server->initialized = true;
    if (server->batch > 1)
        server->carried = server->batch;
    return leave(server, ASKED);
}

static bool is_zero(double number)
{
    const word *words = (const word *)&number;
    return (words[0] | words[1] << 1) == 0;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

// Inverts an upper triangular h in i-PI's order of operations, so that all bits are the same.
static int invert(const double *h, double *inverse)
{
    if (!finite(h, 9))
        return NotFinite;
    if (!is_zero(h[3]) || !is_zero(h[6]) || !is_zero(h[7]))
        return NotUpperTriangular;
    inverse[3] = inverse[6] = inverse[7] = 0;
    for (int at = 0; at < 9; at += 4)
        inverse[at] = 1 / h[at];
    inverse[1] = 0 - inverse[0] * h[1] * inverse[4];
    inverse[5] = 0 - inverse[4] * h[5] * inverse[8];
    inverse[2] = 0 - inverse[5] * h[1] * inverse[0];
    inverse[2] -= inverse[0] * h[2] * inverse[8];
    // The vectors lie in one plane, to within rounding.
    const double b = larger(__builtin_fabs(h[1]), __builtin_fabs(h[4]));
    const double c = larger(larger(__builtin_fabs(h[2]), __builtin_fabs(h[5])), __builtin_fabs(h[8]));
    const bool thick = __builtin_fabs(h[4] / b * (h[8] / c)) > 4 * __DBL_EPSILON__;
    return thick && finite(inverse, 9) ? IPI_OK : SingularCell;
}

// Whether the structures can be sent.
static int check_request(const ipi_server *server, const ipi_request *request)
{
    double inverse[9];
    if (request->structures - 1 >= server->carried || request->natoms > INT32_MAX / request->structures)
        return WrongLength;
    if (!server->not_finite && !finite(request->positions, 3 * request->natoms * request->structures))
        return NotFinite;
    if (server->natoms >= 0 && (size_t)server->natoms != request->natoms && !server->changing_atoms)
        return AtomsChanged;
    for (size_t index = 0; index < request->structures; index++) {
        const int result = invert(request->cells[index], inverse);
        if (result != IPI_OK)
            return result;
    }
    return IPI_OK;
}

int ipi_send_positions(ipi_server *server, const ipi_request *request)
{
    if (server->phase != DRIVER_IS_READY)
        return out_of_turn(server);
    const int result = check_request(server, request);
    if (result != IPI_OK)
        return result;
    server->natoms = (int32_t)request->natoms;
    server->structures = request->structures;
    outgoing *const out = &server->out;
    const size_t carried = server->carried, last = request->structures - 1;
    begin(out, POSDATA);
    if (carried > 1)
        put(out, &server->natoms, INTEGER);
    for (size_t index = 0; index < carried; index++) {
        const double *const h = request->cells[index < last ? index : last];
        double inverse[9];
        invert(h, inverse);
        put(out, h, MATRIX);
        put(out, inverse, MATRIX);
    }
    if (carried == 1)
        put(out, &server->natoms, INTEGER);
    for (size_t index = 0; index < carried; index++) {
        const size_t source = index < last ? index : last; // behind the last come copies of it
        put(out, request->positions + 3 * request->natoms * source, request->natoms * ATOM);
    }
    if (server->mode == CONSOLIDATED)
        put_header(server, GETFORCE);
    put_header(server, STATUS);
    return leave(server, server->mode == CONSOLIDATED ? AWAITING : COMPUTING);
}

static void mirror(double *upper, double *lower, bool is_lower, bool is_mean)
{
    if (is_mean)
        *upper = 0.5 * *upper + 0.5 * *lower;
    else if (is_lower)
        *upper = *lower;
    *lower = *upper;
}

// Mirrors a virial whose other triangle is zero; otherwise takes the mean of both.
static void make_symmetric(double *w)
{
    const bool upper = is_zero(w[3]) && is_zero(w[6]) && is_zero(w[7]);
    const bool lower = is_zero(w[1]) && is_zero(w[2]) && is_zero(w[5]);
    mirror(&w[1], &w[3], lower && !upper, !lower && !upper);
    mirror(&w[2], &w[6], lower && !upper, !lower && !upper);
    mirror(&w[5], &w[7], lower && !upper, !lower && !upper);
}

// Reads and drops bytes.
static int drain(ipi_server *server, size_t size)
{
    int result = IPI_OK;
    while (size > 0 && result == IPI_OK) {
        const size_t some = size < SCRATCH ? size : SCRATCH;
        result = take(server->out.bytes, some);
        size -= some;
    }
    return result;
}

// Reads FORCEREADY after its header.
static int take_forces(ipi_server *server, const ipi_answers *to)
{
    const size_t carried = server->carried, structures = server->structures;
    const size_t each = (size_t)server->natoms * ATOM;
    const bool any = server->not_finite;
    double number, matrix[9];
    int32_t integer;
    int result = IPI_OK;
    for (size_t index = 0; index < carried && result == IPI_OK; index++) {
        double *const energy = index < structures ? &to->answers[index].evaluation.energy : &number;
        result = take(energy, REAL);
        if (result == IPI_OK && !any && index < structures && !finite(energy, 1))
            result = NotFinite;
    }
    if (result == IPI_OK)
        result = take(&integer, INTEGER);
    if (result == IPI_OK && integer != server->natoms)
        result = WrongAtoms;
    if (result == IPI_OK)
        result = take(to->forces, each * structures);
    if (result == IPI_OK && !any && !finite(to->forces, 3 * to->atoms))
        result = NotFinite;
    if (result == IPI_OK)
        result = drain(server, each * (carried - structures));
    for (size_t index = 0; index < carried && result == IPI_OK; index++) {
        double *const virial = index < structures ? to->answers[index].evaluation.virial : matrix;
        result = take(virial, MATRIX);
        if (result == IPI_OK && !any && index < structures && !finite(virial, 9))
            result = NotFinite;
        make_symmetric(virial);
    }
    size_t at = 0;
    for (size_t index = 0; index < carried && result == IPI_OK; index++) {
        result = take(&integer, INTEGER);
        if (result == IPI_OK && integer < 0)
            result = NegativeLength;
        if (result != IPI_OK)
            break;
        const size_t size = (size_t)integer, room = index < structures ? to->room - at : 0;
        const size_t kept = size < room ? size : room;
        if (index < structures) {
            to->answers[index].extras_at = at;
            to->answers[index].extras_kept = kept;
            to->answers[index].extras_sent = size;
        }
        result = take(to->extras + at, kept);
        if (result == IPI_OK)
            result = drain(server, size - kept);
        at += kept;
    }
    if (result != IPI_OK)
        return fail(server, result);
    server->phase = server->mode == STRICT ? UNKNOWN : ASKED;
    return IPI_OK;
}

int ipi_get_forces(ipi_server *server, const ipi_answers *to)
{
    if (server->phase < COMPUTING || server->phase > AWAITING)
        return out_of_turn(server);
    if (to->structures != server->structures || to->atoms != (size_t)server->natoms * server->structures)
        return WrongLength;
    int result = IPI_OK;
    if (server->phase == COMPUTING)
        result = hear(server);
    if (result == IPI_OK && server->phase == HAS_FORCES) {
        begin(&server->out, GETFORCE);
        if (server->mode != STRICT)
            put_header(server, STATUS);
        result = leave(server, AWAITING);
    }
    if (result == IPI_OK)
        result = hear(server);
    return result == IPI_OK ? take_forces(server, to) : result;
}

int ipi_evaluate(ipi_server *server, const ipi_request *request, const ipi_answers *to)
{
    // An answer to another call's positions does not belong to these.
    if (server->phase > DRIVER_IS_READY)
        return out_of_turn(server);
    if (to->structures != request->structures || to->atoms != request->natoms * request->structures)
        return WrongLength;
    int result = IPI_OK;
    while (result == IPI_OK && server->phase != DRIVER_IS_READY) {
        if (server->phase == UNKNOWN)
            result = ask(server);
        else if (server->phase == ASKED)
            result = hear(server);
        else
            result = ipi_initialize(server, request->replica, request->init);
    }
    if (result == IPI_OK)
        result = ipi_send_positions(server, request);
    return result == IPI_OK ? ipi_get_forces(server, to) : result;
}

int ipi_exit(ipi_server *server)
{
    if (server->phase == GONE)
        return server->error;
    begin(&server->out, EXIT);
    int result = leave(server, LEAVING);
    // The driver closes; bytes before that are dropped.
    while (result == IPI_OK)
        result = take(server->out.bytes, 1);
    server->phase = GONE;
    return result == EndOfStream ? IPI_OK : result;
}
