// The debugger's services (Arm IHI 0103), which QEMU has too: a log, the options, and the exit.

#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stddef.h>

void semihosting_write(const char *text);

// The command line, which begins with the image's name. NULL if there is none or it does not fit.
const char *semihosting_command_line(char *text, size_t size);

_Noreturn void semihosting_exit(int status);

#endif
