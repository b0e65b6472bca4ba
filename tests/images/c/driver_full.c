// A driver with INIT, batches, extras, parameters and reset.

#include "driver_full.h"

enum { UNINIT, IS_READY, HAS_DATA, LEFT_BY_EXIT, LEFT };

// The state of the search for batch_size in INIT's text: how many letters of the key have matched,
// or one of these.
static const char KEY[] = "batch_size";
enum { WHOLE_KEY = sizeof KEY - 1, VALUE, NUMBER, END, OTHER };

void ipi_reset(ipi_driver *driver)
{
    driver->phase = driver->initialize == NEVER ? IS_READY : UNINIT;
    driver->news = false;
    driver->natoms = -1;
    driver->batch_size = 0;
    driver->structures = 1;
    driver->sent = 0;
}

// Searches for batch_size in the text while it passes through.
static void look_for_batches(ipi_driver *driver, char byte)
{
    uint32_t size = driver->batch_size;
    unsigned seen = driver->seen, next = OTHER;
    if (byte == ',')
        next = 0;
    else if (byte == ' ')
        next = seen == 0 || seen == WHOLE_KEY || seen == VALUE || seen == OTHER ? seen
               : seen == NUMBER || seen == END                                 ? END
                                                                               : OTHER;
    else if (seen < WHOLE_KEY)
        next = byte == KEY[seen] ? seen + 1 : OTHER;
    else if (seen == WHOLE_KEY && byte == ':')
        next = VALUE, size = 0;
    else if ((seen == VALUE || seen == NUMBER) && byte >= '0' && byte <= '9')
        next = NUMBER, size = size > UINT32_MAX / 10 - 1 ? UINT32_MAX : size * 10 + (uint32_t)(byte - '0');
    else if (seen == VALUE || seen == NUMBER || seen == END)
        size = 0; // no number after all
    driver->seen = (uint8_t)next;
    driver->batch_size = size;
}

static int take_init(ipi_driver *driver)
{
    int32_t init[2];
    int result = take(init, sizeof init);
    if (result != IPI_OK)
        return result;
    if (init[1] < 0)
        return NegativeLength;
    driver->replica = init[0];
    driver->sent = driver->batch_size = driver->seen = 0;
    while (driver->sent < (size_t)init[1]) {
        char byte;
        result = take(&byte, 1);
        if (result != IPI_OK)
            return result;
        if (driver->sent < TEXT)
            driver->text[driver->sent] = byte;
        driver->sent++;
        look_for_batches(driver, byte);
    }
    driver->news = true;
    if (driver->phase == UNINIT)
        driver->phase = IS_READY;
    return IPI_OK;
}

// Answers STATUS and handles INIT until another header arrives that this phase allows.
static int listen(ipi_driver *driver, int *header)
{
    const int result = take_header(header);
    if (result == IPI_CLOSED)
        driver->phase = LEFT;
    if (result != IPI_OK)
        return result;
    if (*header == STATUS)
        return send(NAMES[NEEDINIT + driver->phase], HEADER);
    if (*header == INIT)
        return take_init(driver);
    if (*header == EXIT) {
        driver->phase = LEFT_BY_EXIT;
        return IPI_EXIT;
    }
    if (*header == (driver->phase == HAS_DATA ? GETFORCE : POSDATA) && driver->phase != UNINIT)
        return IPI_OK;
    return OutOfTurn;
}

static int take_structures(ipi_driver *driver, double *cells, size_t structures, double *positions, size_t capacity)
{
    const bool batch = driver->batch_size > 1, any = driver->not_finite;
    const size_t count = driver->structures = batch ? driver->batch_size : 1;
    frame sent;
    int result = batch ? take(&sent.natoms, INTEGER) : take(&sent, FRAME);
    if (result == IPI_OK && !batch && is_batch(&sent))
        result = UnannouncedBatch;
    if (result == IPI_OK && !batch && !any)
        result = check_cell(sent.h);
    if (result == IPI_OK) {
        result = check_atoms(&driver->natoms, sent.natoms, capacity / count, driver->changing_atoms);
        if (count > structures && (result == IPI_OK || result == TooManyAtoms))
            result = TooManyStructures;
    }
    if (result == IPI_OK && !batch)
        memcpy(cells, sent.h, MATRIX);
    for (size_t index = 0; batch && index < count && result == IPI_OK; index++) {
        result = take(&sent, 2 * MATRIX);
        if (result == IPI_OK && !any)
            result = check_cell(sent.h);
        if (result == IPI_OK)
            memcpy(cells + 9 * index, sent.h, MATRIX);
    }
    if (result == IPI_OK)
        result = take_positions(positions, (size_t)driver->natoms * count, any);
    if (result == IPI_OK)
        driver->phase = HAS_DATA;
    return result;
}

int ipi_receive(ipi_driver *driver, double *cells, size_t structures, double *positions, size_t capacity)
{
    for (;;) {
        if (driver->news) {
            driver->news = false;
            return IPI_INIT;
        }
        if (driver->phase >= LEFT_BY_EXIT)
            return driver->phase == LEFT ? IPI_CLOSED : IPI_EXIT;
        if (driver->phase == HAS_DATA)
            return IPI_POSITIONS;
        int header, result = listen(driver, &header);
        if (result == IPI_OK && header == POSDATA)
            result = take_structures(driver, cells, structures, positions, capacity);
        if (result != IPI_OK)
            return result;
    }
}

static int check_reply(const ipi_driver *driver, const ipi_evaluation *evaluations, const double *forces, size_t atoms,
                       const ipi_text *extras, size_t texts)
{
    for (size_t index = 0; index < driver->structures; index++) {
        if (index < texts && extras[index].size > INT32_MAX)
            return TextTooLong;
        // Energy and virial form one array of ten numbers.
        if (!driver->not_finite && !finite(&evaluations[index].energy, 10))
            return NotFinite;
    }
    return driver->not_finite || finite(forces, 3 * atoms) ? IPI_OK : NotFinite;
}

int ipi_reply(ipi_driver *driver, const ipi_evaluation *evaluations, size_t structures, const double *forces,
              size_t atoms, const ipi_text *extras, size_t texts)
{
    if (driver->phase != HAS_DATA)
        return NothingToReplyTo;
    if (structures != driver->structures || atoms != (size_t)driver->natoms * structures ||
        (texts != 0 && texts != structures))
        return WrongLength;
    int header, result = check_reply(driver, evaluations, forces, atoms, extras, texts);
    do {
        if (result == IPI_OK)
            result = listen(driver, &header);
        if (result != IPI_OK)
            return result < 0 ? result : IPI_OK;
    } while (header != GETFORCE);

    outgoing *out = &driver->out;
    begin(out, FORCEREADY);
    for (size_t index = 0; index < structures; index++)
        put(out, &evaluations[index].energy, REAL);
    put(out, &driver->natoms, INTEGER);
    put(out, forces, atoms * ATOM);
    for (size_t index = 0; index < structures; index++)
        put(out, evaluations[index].virial, MATRIX);
    for (size_t index = 0; index < structures; index++) {
        const int32_t size = texts > 0 ? (int32_t)extras[index].size : 0;
        put(out, &size, INTEGER);
        if (size > 0)
            put(out, extras[index].bytes, (size_t)size);
    }
    driver->phase = driver->initialize == EVERY_STEP ? UNINIT : IS_READY;
    return flush(out);
}

static ipi_text trimmed(const char *from, const char *to)
{
    while (from < to && *from <= ' ')
        from++;
    while (from < to && to[-1] <= ' ')
        to--;
    return (ipi_text){from, (size_t)(to - from)};
}

bool ipi_parameter(const ipi_driver *driver, size_t *at, ipi_text *key, ipi_text *value)
{
    size_t size = driver->sent;
    if (size > TEXT) // without the parameter that was cut
        for (size = TEXT; size > 0 && driver->text[size - 1] != ',';)
            size--;
    while (*at < size) {
        const char *const from = driver->text + *at, *const last = driver->text + size, *colon = NULL, *end = from;
        for (; end < last && *end != ','; end++)
            if (*end == ':' && colon == NULL)
                colon = end;
        *at = (size_t)(end - driver->text) + 1;
        if (colon != NULL) {
            *key = trimmed(from, colon);
            *value = trimmed(colon + 1, end);
            return true;
        }
    }
    return false;
}
