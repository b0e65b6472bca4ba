/* Arguments that i-PI's sockets.c accepts without a check, passed to the replacement functions. The
   program's argument is the port of a server that sends eight bytes. */

#include <assert.h>
#include <forcewire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The status of the last failure, whose text must contain these words. */
static forcewire_status_t failed(const char *words)
{
    char text[1024];
    forcewire_status_t status = forcewire_error();
    if (!strstr(forcewire_error_text(text, sizeof text), words)) {
        fprintf(stderr, "\"%s\" does not say \"%s\"\n", text, words);
        abort();
    }
    forcewire_clear_error();
    return status;
}

int main(int argc, char **argv)
{
    assert(argc == 2);
    int sock = 5, no = -1, inet = 1, local = 0, port = atoi(argv[1]), eight = 8, zero = 0, three = 3;
    char data[8] = "stale";
    forcewire_on_error(FORCEWIRE_CONTINUE);
    assert(forcewire_error() == FORCEWIRE_OK);

    /* Invalid ports and names, and paths that are too long for a socket. */
    int ports[] = {-1, 65536};
    for (int i = 0; i < 2; i++) {
        open_socket(&sock, &inet, &ports[i], "localhost", NULL);
        assert(failed("there is no such port") == FORCEWIRE_INVALID_ARGUMENT && sock == -1);
    }
    open_socket(&sock, &inet, &port, "no-such-host.invalid", NULL);
    assert(failed("no-such-host.invalid") == FORCEWIRE_CONNECTION && sock == -1);
    char name[300];
    memset(name, 'x', sizeof name);
    name[299] = 0;
    open_socket(&sock, &local, &zero, name, "/tmp/ipi_");
    assert(failed("no connection to /tmp/ipi_xxx") == FORCEWIRE_INVALID_ARGUMENT && sock == -1);
    open_socket(NULL, &inet, &port, "localhost", NULL);
    assert(failed("needs psockfd") == FORCEWIRE_INVALID_ARGUMENT);
    open_socket(&sock, &inet, &port, NULL, NULL);
    assert(failed("needs psockfd") == FORCEWIRE_INVALID_ARGUMENT);

    /* Without a connection nothing is read, and the old contents are overwritten. */
    readbuffer(&no, data, &eight);
    assert(failed("descriptor -1 is no connection") == FORCEWIRE_INVALID_ARGUMENT);
    int closed = dup(0);
    close(closed);
    readbuffer(&closed, data, &eight);
    assert(failed("Bad file descriptor") == FORCEWIRE_CONNECTION && data[0] == '\xff' && data[7] == '\xff');
    writebuffer(&closed, data, &eight);
    assert(failed("after 0 of 8 bytes were sent") == FORCEWIRE_CONNECTION);

    open_socket(&sock, &inet, &port, "127.0.0.1   ", (const char *)1); /* What a register held: four were passed. */
    assert(failed("all is well") == FORCEWIRE_OK && sock >= 0);
    readbuffer(&sock, NULL, &zero);
    writebuffer(&sock, NULL, &zero);
    assert(failed("all is well") == FORCEWIRE_OK);
    readbuffer(&sock, data, &no);
    assert(failed("a buffer of -1 bytes") == FORCEWIRE_INVALID_ARGUMENT);
    writebuffer(&sock, data, &no);
    assert(failed("a buffer of -1 bytes") == FORCEWIRE_INVALID_ARGUMENT);
    readbuffer(&sock, NULL, &eight);
    assert(failed("there is no room") == FORCEWIRE_INVALID_ARGUMENT);
    writebuffer(&sock, NULL, &eight);
    assert(failed("there is no data") == FORCEWIRE_INVALID_ARGUMENT);
    readbuffer(NULL, data, &eight);
    assert(failed("no descriptor") == FORCEWIRE_INVALID_ARGUMENT);

    /* The first failure is kept until it is cleared. */
    readbuffer(&sock, data, &no);
    readbuffer(&no, data, &eight);
    assert(failed("a buffer of -1 bytes") == FORCEWIRE_INVALID_ARGUMENT);

    readbuffer(&sock, data, &eight);
    assert(failed("all is well") == FORCEWIRE_OK && !memcmp(data, "12345678", 8));
    writebuffer(&sock, "abc", &three);

    /* The text is cut to fit into the room. */
    char text[8];
    readbuffer(&sock, data, &no);
    assert(!strcmp(forcewire_error_text(text, sizeof text), "a buffe"));
    assert(!strcmp(forcewire_error_text(text, 1), ""));
    assert(!strcmp(forcewire_error_text(NULL, 8), "") && !strcmp(forcewire_error_text(text, 0), ""));
    assert(!strcmp(forcewire_strerror(FORCEWIRE_OK), "all is well"));
    for (int status = -1; status < 20; status++)
        assert(strlen(forcewire_strerror(status)) > 5);

    /* sockets.c has these functions too. */
    c_sleep(0.001);
    c_sleep(-1);
    assert(!shm_map("forcewire_no_such_segment", 8));
    assert(failed("a buffer of -1") == FORCEWIRE_INVALID_ARGUMENT);
    assert(!shm_map("forcewire_no_such_segment", 8));
    assert(failed("shared memory forcewire_no_such_segment") == FORCEWIRE_CONNECTION);
    FILE *segment = fopen("/dev/shm/forcewire_test_segment", "wx");
    assert(segment && fwrite("segment", 1, 8, segment) == 8 && !fclose(segment));
    char *mapped = shm_map("forcewire_test_segment", 8);
    assert(mapped && !strcmp(mapped, "segment"));
    shm_unmap(mapped, 8);
    assert(!shm_map("forcewire_test_segment", 4096));
    assert(failed("shorter") == FORCEWIRE_CONNECTION);
    assert(!remove("/dev/shm/forcewire_test_segment"));
    close(sock);
    return 0;
}
