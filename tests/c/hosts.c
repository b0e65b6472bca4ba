/* Connecting and listening from C, which follow the same rules as in Rust, and options that were
   not set. */

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "forcewire.h"

static forcewire_driver_t driver;
static forcewire_server_t server;
static char path[100], address[110];

static void named(const char *directory, const char *name)
{
    snprintf(path, sizeof path, "%s/%s", directory, name);
    snprintf(address, sizeof address, "unix:%s", path);
}

static int listening(int queue)
{
    int socket_ = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    memcpy(name.sun_path, path, strlen(path));
    assert(bind(socket_, (struct sockaddr *)&name, sizeof name) == 0 && listen(socket_, queue) == 0);
    return socket_;
}

static void says(bool of_server, const char *part)
{
    char text[512];
    if (of_server)
        forcewire_server_error(&server, text, sizeof text);
    else
        forcewire_driver_error(&driver, text, sizeof text);
    if (!strstr(text, part)) {
        fprintf(stderr, "%s: not in: %s\n", part, text);
        assert(false);
    }
}

int main(int argc, char **argv)
{
    assert(argc == 2);
    const char *directory = argv[1];
    const forcewire_options_t zeros = {0}, soon = {.connect = 0.2};
    const forcewire_options_t never = {INFINITY, INFINITY, INFINITY, INFINITY, INFINITY, INFINITY};
    struct stat file;
    assert(forcewire_driver_init(&driver, 0) == FORCEWIRE_OK && forcewire_server_init(&server, 0) == FORCEWIRE_OK);

    /* The socket of a killed server is no server; its file is gone afterwards. */
    named(directory, "stale");
    close(listening(1));
    assert(forcewire_server_accept(&server, address, &soon) == FORCEWIRE_TIMED_OUT);
    says(true, "was it started?");
    assert(stat(path, &file) == -1);

    /* A running server's socket is kept, and so is a file that is not a socket. */
    named(directory, "server");
    int theirs = listening(0);
    assert(forcewire_server_accept(&server, address, &soon) == FORCEWIRE_CONNECTION);
    says(true, "another server does");
    assert(stat(path, &file) == 0);
    char kept[110];
    snprintf(kept, sizeof kept, "%s/thesis.tex", directory);
    fclose(fopen(kept, "w"));
    named(directory, "thesis.tex");
    assert(forcewire_server_accept(&server, address, &soon) == FORCEWIRE_CONNECTION);
    says(true, "no socket");
    assert(stat(kept, &file) == 0);

    /* A server that accepts no connection: its queue is full after the first or second of these. */
    named(directory, "server");
    int queue[8], n = 0;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    memcpy(name.sun_path, path, strlen(path));
    do
        queue[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    while (connect(queue[n++], (struct sockaddr *)&name, sizeof name) == 0 && n < 8);
    assert(errno == EAGAIN);
    assert(forcewire_driver_connect(&driver, address, &soon) == FORCEWIRE_TIMED_OUT);
    says(false, "queue is full");
    while (n-- > 0)
        close(queue[n]);

    /* Neither call follows a link to another socket. */
    char link[110];
    snprintf(link, sizeof link, "%s/link", directory);
    assert(symlink(path, link) == 0);
    named(directory, "link");
    assert(forcewire_driver_connect(&driver, address, &soon) == FORCEWIRE_CONNECTION);
    says(false, "symbolic link");
    int socket_, unix_ = 0, port = 0;
    forcewire_on_error(FORCEWIRE_CONTINUE);
    open_socket(&socket_, &unix_, &port, link, "");
    assert(socket_ == -1 && forcewire_error() == FORCEWIRE_CONNECTION);
    close(theirs);

    /* Options of zeros are the defaults, and unlimited options have no limits. */
    for (int i = 0; i < 2; i++) {
        const forcewire_options_t *options = i == 0 ? &zeros : &never;
        int pair[2];
        forcewire_event_t event;
        assert(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
        assert(forcewire_driver_adopt(&driver, pair[0], options) == FORCEWIRE_OK);
        double room[1][3];
        assert(write(pair[1], "EXIT        ", 12) == 12);
        assert(forcewire_driver_receive(&driver, room, 1, &event) == FORCEWIRE_OK);
        assert(event.kind == FORCEWIRE_EVENT_EXIT);
        forcewire_driver_close(&driver);
        close(pair[1]);
    }
    forcewire_server_close(&server);
    return 0;
}
