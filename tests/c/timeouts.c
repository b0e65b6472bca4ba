/* Both roles over functions that time out once, at a given byte. The call is then repeated.

   timeouts ROLE HOW PORT TIMES: TIMES connections to PORT. Connection n times out before byte n of
   the conversation, received or sent; with flush instead of byte as the last part of HOW, at the
   n-th flush. Each connection is a line: right evaluations, status, text.

   ROLE HOW: driver serve    forcewire_driver_serve, the library's arrays; asks for INIT
             driver arrays   the same, this program's arrays
             driver steps    forcewire_driver_receive and _reply
             server evaluate forcewire_server_evaluate
             server classic  the same with FORCEWIRE_CLASSIC
             server steps    forcewire_server_status, _initialize, _send_positions and _get_forces

   After evaluate or classic may follow -discard: after a time-out the answer is discarded, and
   another structure evaluated. After HOW may follow -other: the call that is made again has other
   arrays, and numbers that are not the same. */

#include <forcewire.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ATOMS = 5 };

struct wire {
    int socket;
    bool at_flush, timed_out;
    size_t before, moved, flushes;
};

/* The number of bytes that may move now; 0 means the time-out. */
static size_t room(struct wire *wire, size_t size)
{
    if (wire->at_flush || wire->timed_out)
        return size;
    size_t most = wire->before - wire->moved;
    wire->timed_out = most == 0;
    return size < most ? size : most;
}

static ptrdiff_t wire_recv(void *context, void *bytes, size_t size, bool owed)
{
    struct wire *wire = context;
    (void)owed;
    size = room(wire, size);
    if (size == 0)
        return -FORCEWIRE_TIMED_OUT;
    ptrdiff_t n = recv(wire->socket, bytes, size, 0);
    wire->moved += n > 0 ? n : 0;
    return n;
}

static ptrdiff_t wire_send(void *context, const void *bytes, size_t size)
{
    struct wire *wire = context;
    size = room(wire, size);
    if (size == 0)
        return -FORCEWIRE_TIMED_OUT;
    ptrdiff_t n = send(wire->socket, bytes, size, MSG_NOSIGNAL);
    wire->moved += n > 0 ? n : 0;
    return n;
}

static int wire_flush(void *context)
{
    struct wire *wire = context;
    if (!wire->at_flush || wire->timed_out || wire->flushes++ != wire->before)
        return 0;
    wire->timed_out = true;
    return -FORCEWIRE_TIMED_OUT;
}

static bool other, discards;
static int evaluations;

/* A potential whose forces are the positions. */
static int same(void *context, const forcewire_cell_t *cell, const double (*positions)[3], double (*forces)[3],
                size_t natoms, forcewire_evaluation_t *evaluation)
{
    (void)context, (void)cell;
    memcpy(forces, positions, natoms * sizeof *forces);
    evaluation->energy = 1.5;
    evaluations++;
    return 0;
}

static double positions[2][ATOMS][3], forces[2][ATOMS][3];

/* Changes the arrays that a repeated call must not rely on. */
static void spoil(int which)
{
    for (int i = 0; i < 3 * ATOMS; i++)
        positions[which][i / 3][i % 3] = forces[which][i / 3][i % 3] = -1 - i;
}

static forcewire_status_t drive(forcewire_driver_t *driver, const char *how)
{
    forcewire_status_t status;
    int which = 0;
    if (!strcmp(how, "serve")) {
        while ((status = forcewire_driver_serve(driver, same, NULL, NULL, NULL, 0)) == FORCEWIRE_TIMED_OUT)
            if (other)
                return forcewire_driver_serve(driver, same, NULL, positions[1], forces[1], ATOMS);
        return status;
    }
    if (!strcmp(how, "arrays")) {
        while ((status = forcewire_driver_serve(driver, same, NULL, positions[which], forces[which], ATOMS)) ==
               FORCEWIRE_TIMED_OUT)
            which = other;
        return status;
    }
    for (;;) {
        forcewire_event_t event;
        while ((status = forcewire_driver_receive(driver, positions[which], ATOMS, &event)) == FORCEWIRE_TIMED_OUT)
            which = other;
        if (status != FORCEWIRE_OK || event.kind == FORCEWIRE_EVENT_EXIT)
            return status;
        if (event.kind != FORCEWIRE_EVENT_POSITIONS)
            continue;
        forcewire_evaluation_t evaluation = {0};
        same(NULL, &event.cell, (const double(*)[3])positions[which], forces[which], event.natoms, &evaluation);
        while ((status = forcewire_driver_reply(driver, &evaluation, (const double(*)[3])forces[which], event.natoms,
                                                NULL, 0)) == FORCEWIRE_TIMED_OUT)
            if (other) {
                which = 1;
                evaluation.energy = -1;
            }
        if (status != FORCEWIRE_OK)
            return status;
    }
}

static forcewire_status_t evaluate(forcewire_server_t *server, const char *how, double (*x)[3], double (*f)[3],
                                   forcewire_answer_t *answer, char *extras, size_t size)
{
    const forcewire_cell_t cell = {{{10, 0, 0}, {0, 10, 0}, {0, 0, 10}}};
    const double(*at)[3] = (const double(*)[3])x;
    forcewire_status_t status;
    uint32_t known = 0;
    if (strcmp(how, "steps"))
        return forcewire_server_evaluate(server, &cell, at, f, 2, answer, extras, size);
    do {
        while ((status = forcewire_server_status(server, &known)) == FORCEWIRE_TIMED_OUT)
            ;
        if (status == FORCEWIRE_OK && known & FORCEWIRE_NEEDS_INIT)
            while ((status = forcewire_server_initialize(server, 7, "k:1", 3)) == FORCEWIRE_TIMED_OUT)
                ;
    } while (status == FORCEWIRE_OK && known & FORCEWIRE_NEEDS_INIT);
    if (status == FORCEWIRE_OK)
        while ((status = forcewire_server_send_positions(server, &cell, at, 2)) == FORCEWIRE_TIMED_OUT)
            ;
    if (status == FORCEWIRE_OK)
        while ((status = forcewire_server_get_forces(server, f, 2, answer, extras, size)) == FORCEWIRE_TIMED_OUT)
            ;
    return status;
}

static forcewire_status_t ask(forcewire_server_t *server, const char *how)
{
    forcewire_status_t status;
    for (int structure = 0; structure < 2; structure++) {
        int which = 0;
        forcewire_answer_t answer;
        char extras[2][16] = {"", ""};
        for (int i = 0; i < 6; i++)
            for (int k = 0; k < 2; k++)
                positions[k][i / 3][i % 3] = 50 * structure + 1000 * k + i / 8.0 + 1;
        while ((status = evaluate(server, how, positions[which], forces[which], &answer, extras[which], 15)) ==
               FORCEWIRE_TIMED_OUT) {
            which = other;
            if (!discards)
                continue;
            while ((status = forcewire_server_discard(server)) == FORCEWIRE_TIMED_OUT)
                ;
            /* If a structure was sent in part, continue with the same one. */
            if (status != FORCEWIRE_OK && status != FORCEWIRE_OUT_OF_TURN)
                return status;
            which = status == FORCEWIRE_OK;
        }
        if (status != FORCEWIRE_OK)
            return status;
        if (answer.energy != 1.5 || memcmp(forces[which], positions[which], 48) || answer.extras_size != 11 ||
            strcmp(extras[which], "{\"extra\":1}"))
            return 100;
        evaluations++;
    }
    while ((status = forcewire_server_exit(server)) == FORCEWIRE_TIMED_OUT)
        ;
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    const bool drives = !strcmp(argv[1], "driver");
    const bool at_flush = strstr(argv[2], "-flush");
    other = strstr(argv[2], "-other");
    discards = strstr(argv[2], "-discard");
    const char *how = strtok(argv[2], "-");
    const int inet = 1, port = atoi(argv[3]), times = atoi(argv[4]);
    for (int n = 0; n < times; n++) {
        struct wire wire = {.at_flush = at_flush, .before = n};
        forcewire_transport_t transport = {&wire, wire_recv, wire_send, wire_flush};
        forcewire_driver_t driver;
        forcewire_server_t server;
        char text[512];
        int status;
        evaluations = 0;
        spoil(0);
        spoil(1);
        open_socket(&wire.socket, &inet, &port, "127.0.0.1", "");
        if (drives) {
            if (forcewire_driver_init(&driver, strcmp(how, "serve") ? 0 : FORCEWIRE_INIT_ONCE) ||
                forcewire_driver_attach(&driver, &transport))
                return 2;
            status = drive(&driver, how);
            forcewire_driver_error(&driver, text, sizeof text);
            forcewire_driver_close(&driver);
        } else {
            if (forcewire_server_init(&server, strcmp(how, "classic") ? 0 : FORCEWIRE_CLASSIC) ||
                forcewire_server_attach(&server, &transport))
                return 2;
            status = ask(&server, how);
            forcewire_server_error(&server, text, sizeof text);
            forcewire_server_close(&server);
        }
        close(wire.socket);
        printf("%d %d %s\n", evaluations, status, wire.timed_out ? text : "no time-out");
        fflush(stdout);
    }
    return 0;
}
