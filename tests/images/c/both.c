// The driver without options and the server in one program.

#include "driver.c"
#include "server.c"
