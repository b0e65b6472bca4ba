// Firmware that computes argon's forces for i-PI, over a serial line.

#include <stdbool.h>
#include <stdint.h>

#include "argon.h"
#include "attempts.h"
#include "clock.h"
#include "forcewire.h"
#include "line.h"
#include "options.h"
#include "semihosting.h"
#include "uart.h"

// The exit status that the host sees: boards/README.md.
enum { EXIT_SAID = 0, NO_SERVER = 1, BAD_OPTIONS = 2, TOO_MANY_FAILURES = 3 };

enum { ATOMS = 4096 };
static double positions[ATOMS][3], forces[ATOMS][3];

// The potential, and the work done over one connection.
struct work {
    argon_t argon;
    uint32_t evaluations, computing;
};

static int compute(void *context, const forcewire_cell_t *cell, const double (*at)[3], double (*force)[3],
                   size_t natoms, forcewire_evaluation_t *evaluation)
{
    struct work *work = context;
    const uint32_t start = clock_now();
    const int status = argon_compute(&work->argon, cell, at, force, natoms, evaluation);
    work->computing += clock_now() - start;
    work->evaluations += status == 0;
    return status;
}

static void write_number(uint32_t number)
{
    char text[11], *at = text + sizeof text;
    *--at = '\0';
    do
        *--at = (char)('0' + number % 10);
    while (number /= 10);
    semihosting_write(at);
}

static void report(const line_t *line, const struct work *work, uint32_t milliseconds)
{
    write_number(work->evaluations);
    semihosting_write(" evaluations in ");
    write_number(milliseconds);
    semihosting_write(" ms, ");
    write_number(work->computing);
    semihosting_write(" ms of it computing; ");
    write_number(line->received);
    semihosting_write(" bytes received, ");
    write_number(line->sent);
    semihosting_write(" sent\n");
}

static void pause(uint32_t milliseconds)
{
    const uint32_t start = clock_now();
    while (clock_now() - start < milliseconds)
        __asm__ volatile("wfi");
}

int main(void)
{
    options_t options = {.argon = {.sigma = 6.43452, .epsilon = 0.000379384, .cutoff = 16.0863}, .patience = 30000};
    char text[256];
    if (!semihosting_command_line(text, sizeof text) || !options_parse(text, &options)) {
        semihosting_write("options are lj=SIGMA,EPSILON,CUTOFF patience=SECONDS\n");
        return BAD_OPTIONS;
    }
    clock_start();
    uart_start();

    line_t line = {.patience = options.patience};
    forcewire_transport_t transport = line_transport(&line);
    forcewire_driver_t driver;
    forcewire_driver_init(&driver, 0);

    attempts_t attempts = {0};
    while (line_open(&line, options.patience)) {
        semihosting_write("connected\n");
        struct work work = {.argon = options.argon};
        const uint32_t start = clock_now();
        forcewire_driver_attach(&driver, &transport);
        const forcewire_status_t status = forcewire_driver_serve(&driver, compute, &work, positions, forces, ATOMS);
        const char *why = status == FORCEWIRE_CLOSED ? forcewire_strerror(status)
                                                     : forcewire_driver_error(&driver, text, sizeof text);
        // Reads what the server has sent, so the line must still be open. Clears the error.
        forcewire_driver_close(&driver);
        line_close(&line);
        report(&line, &work, clock_now() - start);

        if (status == FORCEWIRE_OK) {
            semihosting_write("the server said EXIT\n");
            return EXIT_SAID;
        }
        semihosting_write(why);
        semihosting_write("\n");
        uint32_t milliseconds;
        if (!attempts_ended(&attempts, line.replies > 0, &milliseconds))
            return TOO_MANY_FAILURES;
        pause(milliseconds);
    }
    semihosting_write("no server\n");
    return NO_SERVER;
}
