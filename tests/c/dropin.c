/* A driver that calls open_socket, readbuffer and writebuffer as i-PI's own driver does, for one
   connection after another.

   dropin INET PORT HOST PREFIX TIMES: with forcewire_on_error(FORCEWIRE_CONTINUE), it serves
   positions as forces, TIMES times, and says for each how many evaluations there were and how it
   ended. A TIMES of 0 is once, with the end that the library makes of an error. A timer interrupts
   its calls all the time. */

#include <forcewire.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { ATOMS = 100000 };

static double atoms[3 * ATOMS];
static const int header_size = 12;

static void get(int *sock, void *data, int size) { readbuffer(sock, data, &size); }
static void put(int *sock, const void *data, int size) { writebuffer(sock, data, &size); }

/* Serves until EXIT or a failure. Returns the number of replies. */
static int serve(int sock)
{
    int evaluations = 0, computed = 0, nat = 0;
    for (;;) {
        char header[12], text[256];
        double cell[18], energy = 1.5, virial[9] = {0};
        int integers[2] = {0, 0};
        get(&sock, header, header_size);
        if (forcewire_error())
            return evaluations;
        if (!memcmp(header, "STATUS      ", 12)) {
            put(&sock, computed ? "HAVEDATA    " : "READY       ", header_size);
        } else if (!memcmp(header, "INIT        ", 12)) {
            get(&sock, &integers[0], 4);
            get(&sock, &integers[1], 4);
            get(&sock, text, integers[1] < 256 ? integers[1] : 256);
        } else if (!memcmp(header, "POSDATA     ", 12)) {
            get(&sock, cell, 72);
            get(&sock, cell + 9, 72);
            get(&sock, &nat, 4);
            get(&sock, atoms, 24 * (nat < ATOMS ? nat : ATOMS));
            computed = !forcewire_error();
        } else if (!memcmp(header, "GETFORCE    ", 12) && computed) {
            put(&sock, "FORCEREADY  ", header_size);
            put(&sock, &energy, 8);
            put(&sock, &nat, 4);
            put(&sock, atoms, 24 * nat);
            put(&sock, virial, 72);
            put(&sock, &integers[0], 4);
            put(&sock, text, 0);
            computed = 0;
            evaluations++;
        } else {
            return evaluations;
        }
        if (forcewire_error())
            return evaluations;
    }
}

static void interrupt(int signal) { (void)signal; }

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    int inet = atoi(argv[1]), port = atoi(argv[2]), times = atoi(argv[5]);

    /* SA_RESTART is not set, so a waiting call returns with EINTR. */
    struct sigaction action = {.sa_handler = interrupt};
    struct itimerval timer = {{0, 2000}, {0, 2000}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);

    if (times > 0)
        forcewire_on_error(FORCEWIRE_CONTINUE);
    for (int i = 0; i < times || (times == 0 && i == 0); i++) {
        int sock = 0;
        char text[512];
        forcewire_clear_error();
        open_socket(&sock, &inet, &port, argv[3], argv[4]);
        int evaluations = forcewire_error() ? 0 : serve(sock);
        printf("%d %d %s\n", evaluations, forcewire_error(), forcewire_error_text(text, sizeof text));
        fflush(stdout);
        if (sock >= 0)
            close(sock);
    }
    return 0;
}
