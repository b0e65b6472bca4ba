/* Calls that make no sense, and potentials and peers that fail: each is refused with a status and a
   text, and the handle stays usable. */

#include <assert.h>
#include <fcntl.h>
#include <forcewire.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static forcewire_driver_t driver;
static forcewire_server_t server;

static void says(const char *text, const char *words)
{
    if (!strstr(text, words)) {
        fprintf(stderr, "\"%s\" does not say \"%s\"\n", text, words);
        abort();
    }
}

static void driver_says(const char *words)
{
    char text[512];
    says(forcewire_driver_error(&driver, text, sizeof text), words);
}

static void server_says(const char *words)
{
    char text[512];
    says(forcewire_server_error(&server, text, sizeof text), words);
}

static const forcewire_cell_t cube = {{{10, 0, 0}, {0, 10, 0}, {0, 0, 10}}};
static const double positions[2][3] = {{1, 2, 3}, {4, 5, 6}};
static double room[2][3], forces[2][3];
static forcewire_evaluation_t evaluation;
static forcewire_event_t event;

static void handles(void)
{
    static forcewire_driver_t zeroed;
    uint32_t known;
    char text[64];
    assert(forcewire_driver_init(NULL, 0) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_init(NULL, 0) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_driver_init(&driver, FORCEWIRE_INIT_ONCE | FORCEWIRE_INIT_EVERY_STEP) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_driver_init(&driver, 1u << 31) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_init(&server, FORCEWIRE_CLASSIC | FORCEWIRE_STRICT) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_init(&server, 1u << 31) == FORCEWIRE_INVALID_ARGUMENT);

    /* Memory that is not a handle, or a handle of the other kind. */
    forcewire_driver_t *none[] = {NULL, &zeroed, (forcewire_driver_t *)&server};
    assert(forcewire_server_init(&server, 0) == FORCEWIRE_OK);
    for (int i = 0; i < 3; i++) {
        size_t size = 5;
        assert(forcewire_driver_receive(none[i], room, 2, &event) == FORCEWIRE_INVALID_ARGUMENT);
        assert(forcewire_driver_reply(none[i], &evaluation, positions, 2, NULL, 0) == FORCEWIRE_INVALID_ARGUMENT);
        assert(forcewire_driver_serve(none[i], NULL, NULL, NULL, NULL, 0) == FORCEWIRE_INVALID_ARGUMENT);
        assert(forcewire_driver_connect(none[i], "localhost:1", NULL) == FORCEWIRE_INVALID_ARGUMENT);
        assert(forcewire_driver_close(none[i]) == FORCEWIRE_INVALID_ARGUMENT);
        assert(forcewire_driver_attach(none[i], NULL) == FORCEWIRE_INVALID_ARGUMENT);
        assert(forcewire_driver_init_text(none[i], &size) && size == 0);
        assert(forcewire_driver_init_text(none[i], NULL));
        says(forcewire_driver_error(none[i], text, sizeof text), "never initialized");
    }
    assert(forcewire_server_status((forcewire_server_t *)&zeroed, &known) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_exit(NULL) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_discard(NULL) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_close(NULL) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_initialize(NULL, 0, NULL, 0) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_send_positions(NULL, &cube, positions, 2) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_get_forces(NULL, forces, 2, NULL, NULL, 0) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_evaluate(NULL, &cube, positions, forces, 2, NULL, NULL, 0) == FORCEWIRE_INVALID_ARGUMENT);

    assert(forcewire_driver_init(&driver, 0) == FORCEWIRE_OK);
    assert(forcewire_driver_receive(&driver, room, 2, &event) == FORCEWIRE_NOT_CONNECTED);
    driver_says("connect or attach it");
    assert(forcewire_server_status(&server, &known) == FORCEWIRE_NOT_CONNECTED);
    assert(forcewire_server_discard(&server) == FORCEWIRE_NOT_CONNECTED);
    assert(forcewire_server_status(&server, NULL) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_evaluate(&server, &cube, positions, forces, 2, NULL, NULL, 0) == FORCEWIRE_NOT_CONNECTED);
    assert(forcewire_server_evaluate(&server, NULL, positions, forces, 2, NULL, NULL, 0) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_evaluate(&server, &cube, NULL, forces, 2, NULL, NULL, 0) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_evaluate(&server, &cube, positions, NULL, 2, NULL, NULL, 0) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_evaluate(&server, &cube, positions, forces, 2, NULL, NULL, 9) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_evaluate(&server, &cube, positions, forces, SIZE_MAX / 8, NULL, NULL, 0) ==
           FORCEWIRE_INVALID_ARGUMENT);
    server_says("NULL");
    /* Arrays that share memory, if only the last atom of one with the first of the other. */
    assert(forcewire_server_evaluate(&server, &cube, room, room, 2, NULL, NULL, 0) == FORCEWIRE_INVALID_ARGUMENT);
    server_says("share memory");
    assert(forcewire_server_evaluate(&server, &cube, room, room + 1, 1, NULL, NULL, 0) == FORCEWIRE_NOT_CONNECTED);
    assert(forcewire_server_evaluate(&server, &cube, positions, room, 2, NULL, &room[1][2], 8) ==
           FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_get_forces(&server, room, 2, NULL, &room[1][2], 8) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_driver_receive(&driver, NULL, 2, &event) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_driver_receive(&driver, room, 2, NULL) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_driver_reply(&driver, NULL, positions, 2, NULL, 0) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_driver_reply(&driver, &evaluation, NULL, 2, NULL, 0) == FORCEWIRE_INVALID_ARGUMENT);
}

static void addresses(void)
{
    const forcewire_options_t once = {.connect = 1e-9}, negative = {.message = -1}, nan = {.connect = NAN};
    const char *wrong[] = {"", "localhost", "localhost:99999", "unix:", "\xff:1"};
    for (int i = 0; i < 5; i++) {
        assert(forcewire_driver_connect(&driver, wrong[i], &once) == FORCEWIRE_INVALID_ARGUMENT);
        assert(forcewire_server_accept(&server, wrong[i], &once) == FORCEWIRE_INVALID_ARGUMENT);
    }
    assert(forcewire_driver_connect(&driver, NULL, &once) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_driver_connect(&driver, "localhost:1", &negative) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_driver_connect(&driver, "localhost:1", &nan) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_driver_connect(&driver, "127.0.0.1:1", &once) != FORCEWIRE_OK);
    driver_says("127.0.0.1:1");
    assert(forcewire_server_accept(&server, "127.0.0.1:0", &once) == FORCEWIRE_TIMED_OUT);
    server_says("was it started?");

    forcewire_transport_t deaf = {NULL, NULL, NULL, NULL};
    assert(forcewire_driver_attach(&driver, &deaf) == FORCEWIRE_INVALID_ARGUMENT);
    driver_says("recv and send");
    assert(forcewire_driver_attach(&driver, NULL) == FORCEWIRE_INVALID_ARGUMENT);

    /* Descriptors that are not connections; an open one gets closed. */
    int file = open("/dev/null", O_RDWR), closed = dup(file);
    close(closed);
    assert(forcewire_driver_adopt(&driver, -1, NULL) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_driver_adopt(&driver, file, NULL) == FORCEWIRE_CONNECTION);
    assert(fcntl(file, F_GETFD) == -1);

    /* A descriptor refused for another reason gets closed too. */
    for (int i = 0; i < 2; i++) {
        file = open("/dev/null", O_RDWR);
        assert(forcewire_driver_adopt(i ? &driver : NULL, file, i ? &nan : NULL) == FORCEWIRE_INVALID_ARGUMENT);
        assert(fcntl(file, F_GETFD) == -1);
    }
    assert(forcewire_driver_receive(&driver, room, 2, &event) == FORCEWIRE_NOT_CONNECTED);
}

/* ---- both ends of one connection ---- */

static int fails(void *context, const forcewire_cell_t *cell, const double (*x)[3], double (*f)[3], size_t natoms,
                 forcewire_evaluation_t *result)
{
    (void)cell, (void)x, (void)natoms;
    result->energy = 1;
    f[0][0] = *(double *)context;
    return isinf(*(double *)context) ? 17 : 0;
}

/* The final status of serving. */
static forcewire_status_t ended;
static char why[512];

static void *serves(void *force)
{
    ended = forcewire_driver_serve(&driver, fails, force, room, forces, 2);
    forcewire_driver_error(&driver, why, sizeof why);
    forcewire_driver_close(&driver);
    driver_says("all is well");
    return NULL;
}

static void serves_in_one_array(void)
{
    double force = 1;
    assert(forcewire_driver_serve(&driver, fails, &force, room, room + 1, 2) == FORCEWIRE_INVALID_ARGUMENT);
    driver_says("share memory");
}

static void close_both(void)
{
    forcewire_driver_close(&driver);
    forcewire_server_close(&server);
}

static void connect_both(uint32_t driver_flags, uint32_t server_flags)
{
    int ends[2];
    close_both();
    assert(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    assert(forcewire_driver_init(&driver, driver_flags) == FORCEWIRE_OK);
    assert(forcewire_server_init(&server, server_flags) == FORCEWIRE_OK);
    assert(forcewire_driver_adopt(&driver, ends[0], NULL) == FORCEWIRE_OK);
    assert(forcewire_server_adopt(&server, ends[1], NULL) == FORCEWIRE_OK);
}

static char heard[512];

static void server_ends(void)
{
    forcewire_server_error(&server, heard, sizeof heard);
    forcewire_server_close(&server);
}

/* Asks for the forces of two atoms, one of which is `force`. Returns the final status of serving.
   */
static forcewire_status_t ask(double force, forcewire_status_t expected)
{
    double found[2][3] = {{0}};
    pthread_t thread;
    assert(!pthread_create(&thread, NULL, serves, &force));
    assert(forcewire_server_evaluate(&server, &cube, positions, found, 2, NULL, NULL, 0) == expected);
    if (expected != FORCEWIRE_OK)
        server_ends();
    else
        assert(found[0][0] == force && forcewire_server_exit(&server) == FORCEWIRE_OK);
    assert(!pthread_join(thread, NULL));
    return ended;
}

static void failures(void)
{
    const forcewire_cell_t flat = {{{1, 0, 0}, {0, 0, 0}, {0, 0, 1}}}, lower = {{{10, 0, 0}, {5, 10, 0}, {0, 0, 10}}};
    const double nowhere[2][3] = {{NAN, 0, 0}, {0, 0, 0}};

    connect_both(0, 0);
    assert(ask(0.5, FORCEWIRE_OK) == FORCEWIRE_OK);

    /* The potential's own status is in the text; the server receives only the end of the stream. */
    connect_both(0, 0);
    assert(ask(INFINITY, FORCEWIRE_CLOSED) == FORCEWIRE_POTENTIAL);
    says(why, "returned 17");

    /* The driver waits for a server that does not ask for the forces as long as for a message, and
       no longer. */
    const forcewire_options_t short_message = {.message = 0.05};
    const double cell[18] = {10, 0, 0, 0, 10, 0, 0, 0, 10, 0.1, 0, 0, 0, 0.1, 0, 0, 0, 0.1};
    const int one = 1;
    double infinite = INFINITY;
    int pair[2];
    for (int arrays = 0; arrays < 2; arrays++) {
        close_both();
        assert(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
        assert(forcewire_driver_adopt(&driver, pair[0], &short_message) == FORCEWIRE_OK);
        assert(write(pair[1], "POSDATA     ", 12) == 12 && write(pair[1], cell, sizeof cell) == sizeof cell);
        assert(write(pair[1], &one, 4) == 4 && write(pair[1], positions, 24) == 24);
        for (int again = 0; again < 2; again++) {
            assert(forcewire_driver_serve(&driver, fails, &infinite, arrays ? room : NULL, arrays ? forces : NULL,
                                          arrays ? 2 : 0) == FORCEWIRE_POTENTIAL);
            driver_says("returned 17");
        }
        close(pair[1]);
    }

    /* A NaN force is not sent, unless the program allows it. */
    connect_both(0, 0);
    assert(ask(NAN, FORCEWIRE_CLOSED) == FORCEWIRE_NOT_FINITE);
    connect_both(FORCEWIRE_NOT_FINITE_TOO, 0);
    assert(ask(NAN, FORCEWIRE_NOT_FINITE) != FORCEWIRE_OK);
    says(heard, "forces");

    /* Calls that are out of turn. */
    connect_both(0, 0);
    assert(forcewire_server_send_positions(&server, NULL, positions, 2) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_send_positions(&server, &cube, positions, 2) == FORCEWIRE_OUT_OF_TURN);
    assert(forcewire_server_get_forces(&server, forces, 2, NULL, NULL, 0) == FORCEWIRE_OUT_OF_TURN);
    assert(forcewire_driver_reply(&driver, &evaluation, positions, 2, NULL, 0) == FORCEWIRE_OUT_OF_TURN);
    driver_says("receive one first");
    assert(ask(0.25, FORCEWIRE_OK) == FORCEWIRE_OK);

    /* Structures that are not sent. Meanwhile the driver serves, and is asked for a valid structure
       at the end. */
    pthread_t thread;
    double force = 1, found[2][3];
    connect_both(0, 0);
    assert(!pthread_create(&thread, NULL, serves, &force));
    assert(forcewire_server_evaluate(&server, &flat, positions, found, 2, NULL, NULL, 0) == FORCEWIRE_INVALID_ARGUMENT);
    server_says("plane");
    assert(forcewire_server_evaluate(&server, &lower, positions, found, 2, NULL, NULL, 0) == FORCEWIRE_INVALID_ARGUMENT);
    server_says("upper");
    assert(forcewire_server_evaluate(&server, &cube, nowhere, found, 2, NULL, NULL, 0) == FORCEWIRE_NOT_FINITE);
    server_says("positions");
    assert(forcewire_server_evaluate(&server, &cube, positions, found, 2, NULL, NULL, 0) == FORCEWIRE_OK);
    assert(forcewire_server_exit(&server) == FORCEWIRE_OK);
    assert(!pthread_join(thread, NULL) && ended == FORCEWIRE_OK);
}

/* ---- serve, then receive, then serve ---- */

static char asked[1000], told[1000];
static size_t asked_len, asked_at, told_len;
static bool full;
static int calls;

static ptrdiff_t hears(void *context, void *bytes, size_t size, bool peek)
{
    (void)context, (void)peek;
    calls++;
    size_t left = asked_len - asked_at, n = left < size ? left : size;
    if (n == 0)
        return -FORCEWIRE_TIMED_OUT;
    memcpy(bytes, asked + asked_at, n);
    asked_at += n;
    return n;
}

static ptrdiff_t tells(void *context, const void *bytes, size_t n)
{
    (void)context;
    if (told_len + n > sizeof told)
        return -FORCEWIRE_CONNECTION;
    memcpy(told + told_len, bytes, n);
    told_len += n;
    return n;
}

static int flushes(void *context)
{
    (void)context;
    return full && told_len > 0 ? -FORCEWIRE_TIMED_OUT : 0;
}

static void asks(double x)
{
    const double words[18] = {10, 0, 0, 0, 10, 0, 0, 0, 10, 0.1, 0, 0, 0, 0.1, 0, 0, 0, 0.1}, at[3] = {x, 0, 0};
    const int one = 1;
    asked_at = asked_len = told_len = 0;
    const struct {
        const void *bytes;
        size_t size;
    } parts[] = {{"POSDATA     ", 12}, {words, sizeof words}, {&one, 4}, {at, sizeof at}, {"GETFORCE    ", 12}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        memcpy(asked + asked_len, parts[i].bytes, parts[i].size);
        asked_len += parts[i].size;
    }
}

static int minus(void *context, const forcewire_cell_t *cell, const double (*r)[3], double (*f)[3], size_t n,
                 forcewire_evaluation_t *found)
{
    (void)context, (void)cell, (void)found;
    for (size_t i = 0; i < n; i++)
        f[i][0] = -r[i][0], f[i][1] = f[i][2] = 0;
    return 0;
}

static void connect_wire(uint32_t flags)
{
    const forcewire_transport_t wire = {NULL, hears, tells, flushes};
    close_both();
    assert(forcewire_driver_init(&driver, flags) == FORCEWIRE_OK);
    assert(forcewire_driver_attach(&driver, &wire) == FORCEWIRE_OK);
    asks(1);
}

/* A reply that serve could not send in time belongs to its structure, not to one that the program
   received afterwards. */
static void stale(void)
{
    const double force[1][3] = {{-2, 0, 0}};
    double at[1][3];
    forcewire_evaluation_t found = {0};
    connect_wire(0);
    full = true;
    assert(forcewire_driver_serve(&driver, minus, NULL, NULL, NULL, 0) == FORCEWIRE_TIMED_OUT);
    full = false;
    asks(2);
    assert(forcewire_driver_receive(&driver, at, 1, &event) == FORCEWIRE_OK && at[0][0] == 2);
    assert(forcewire_driver_serve(&driver, minus, NULL, NULL, NULL, 0) == FORCEWIRE_OUT_OF_TURN);
    assert(told_len == 0);
    assert(forcewire_driver_reply(&driver, &found, force, 1, NULL, 0) == FORCEWIRE_OK);
    double sent;
    memcpy(&sent, told + 12 + 8 + 4, 8);
    assert(!memcmp(told, "FORCEREADY  ", 12) && sent == -2);
}

/* Forces that have changed, or were freed and allocated again, do not belong to the energy. */
static void changed(void)
{
    double at[1][3], force[1][3];
    connect_wire(0);
    full = true;
    assert(forcewire_driver_serve(&driver, minus, NULL, at, force, 1) == FORCEWIRE_TIMED_OUT);
    full = false;
    told_len = 0;
    force[0][0] = 7;
    assert(forcewire_driver_serve(&driver, minus, NULL, at, force, 1) == FORCEWIRE_OUT_OF_TURN);
    assert(told_len == 0);
    force[0][0] = -1;
    asked_len -= 12; /* GETFORCE comes later */
    asked_at = asked_len;
    assert(forcewire_driver_serve(&driver, minus, NULL, at, force, 1) == FORCEWIRE_TIMED_OUT);
}

/* Positions that wait for a reply are not received again, neither into the same array nor into a
   shorter one or another one. */
static void twice(void)
{
    const double force[1][3] = {{-1, 0, 0}};
    double at[1][3], other[2][3] = {{5, 5, 5}, {5, 5, 5}};
    const struct {
        double (*array)[3];
        size_t capacity;
    } again[] = {{at, 1}, {at, 0}, {NULL, 0}, {other, 1}, {other, 2}};
    connect_wire(0);
    assert(forcewire_driver_receive(&driver, at, 1, &event) == FORCEWIRE_OK && at[0][0] == 1);
    for (int i = 0; i < 5; i++) {
        assert(forcewire_driver_receive(&driver, again[i].array, again[i].capacity, &event) == FORCEWIRE_OUT_OF_TURN);
        driver_says("reply");
        assert(event.natoms == 0 && at[0][0] == 1 && other[0][0] == 5 && other[1][2] == 5);
    }
    assert(forcewire_driver_reply(&driver, &evaluation, force, 1, NULL, 0) == FORCEWIRE_OK);
}

/* The library reads what the server has sent with the positions before it ends a good connection.
   */
static void leaves(void)
{
    double at[1][3], force[1][3];
    connect_wire(0);
    assert(forcewire_driver_receive(&driver, at, 1, &event) == FORCEWIRE_OK && asked_at < asked_len);
    assert(forcewire_driver_close(&driver) == FORCEWIRE_OK && asked_at == asked_len);

    connect_wire(0);
    assert(forcewire_driver_receive(&driver, at, 0, &event) == FORCEWIRE_NO_ROOM && event.natoms == 1);
    assert(forcewire_driver_close(&driver) == FORCEWIRE_OK && asked_at == asked_len);

    /* Serving does not do that if it can continue with longer arrays. */
    connect_wire(0);
    assert(forcewire_driver_serve(&driver, minus, NULL, at, force, 0) == FORCEWIRE_NO_ROOM);
    assert(forcewire_driver_serve(&driver, minus, NULL, at, force, 1) == FORCEWIRE_TIMED_OUT);
    assert(!memcmp(told, "FORCEREADY  ", 12) && asked_at == asked_len);

    /* The library does not wait again for a server that was late. */
    connect_wire(0);
    asked_len -= 20;
    assert(forcewire_driver_receive(&driver, at, 1, &event) == FORCEWIRE_TIMED_OUT);
    const int before = calls;
    assert(forcewire_driver_close(&driver) == FORCEWIRE_OK && calls == before);

    /* The next socket closes the previous one, whose server receives the end of the stream and no
       reset. */
    int ends[2], next[2];
    assert(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends) && !socketpair(AF_UNIX, SOCK_STREAM, 0, next));
    assert(forcewire_driver_adopt(&driver, ends[0], NULL) == FORCEWIRE_OK);
    asks(1);
    const ssize_t size = asked_len - 12;
    assert(write(ends[1], asked, size) == size);
    assert(forcewire_driver_receive(&driver, at, 1, &event) == FORCEWIRE_OK);
    assert(write(ends[1], asked + size, 12) == 12);
    assert(forcewire_driver_adopt(&driver, next[0], NULL) == FORCEWIRE_OK);
    assert(read(ends[1], told, sizeof told) == 0);
    close(ends[1]);
    close(next[1]);
}

/* Integers sent in place of doubles are refused, unless the program allows them. */
static void formats(void)
{
    const int64_t integers[3] = {1, 2, 3};
    for (int trusts = 0; trusts < 2; trusts++) {
        double at[1][3] = {{0}};
        connect_wire(trusts ? FORCEWIRE_TRUST_NUMBER_FORMAT : 0);
        memcpy(asked + asked_len - 12 - sizeof integers, integers, sizeof integers);
        const forcewire_status_t status = forcewire_driver_receive(&driver, at, 1, &event);
        assert(status == (trusts ? FORCEWIRE_OK : FORCEWIRE_PROTOCOL));
        assert(trusts ? !memcmp(at, integers, sizeof integers) : event.natoms == 0);
        if (!trusts)
            driver_says("subnormal");
    }
    assert(forcewire_driver_init(&driver, FORCEWIRE_FOLD) == FORCEWIRE_INVALID_ARGUMENT);
    assert(forcewire_server_init(&server, FORCEWIRE_TRUST_NUMBER_FORMAT) == FORCEWIRE_INVALID_ARGUMENT);
}

int main(void)
{
    handles();
    serves_in_one_array();
    addresses();
    failures();
    stale();
    changed();
    twice();
    leaves();
    formats();
    close_both();
    return 0;
}
