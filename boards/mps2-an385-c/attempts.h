// When to connect again, and when to give up: the rule of all boards, of which
// ../common/src/attempts.rs has the words.

#ifndef ATTEMPTS_H
#define ATTEMPTS_H

#include <stdbool.h>
#include <stdint.h>

// Zeros at first.
typedef struct {
    int failures;
} attempts_t;

// A connection has ended, and the server has taken a reply or not. Writes how many milliseconds to
// pause before the next one; false to give up.
bool attempts_ended(attempts_t *attempts, bool replied, uint32_t *pause);

#endif
