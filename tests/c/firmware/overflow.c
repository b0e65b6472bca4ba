// A stack that overflows, with the startup code of boards/mps2-an385-c: status 102, or 0 if nothing
// guards it.

#include "clock.h"
#include "uart.h"

void clock_tick(void)
{
}

void uart_received(void)
{
}

static int deeper(volatile int *above)
{
    volatile int frame[100];
    frame[0] = above[0] + 1;
    return deeper(frame) + above[0];
}

int main(void)
{
    volatile int top[1] = {0};
    return deeper(top) != 0;
}
