// When to connect again, and when to give up: the rule of all boards, described in
// ../common/src/attempts.rs.

#ifndef ATTEMPTS_H
#define ATTEMPTS_H

#include <stdbool.h>
#include <stdint.h>

// Initialize with zeros.
typedef struct {
    int failures;
} attempts_t;

// Records that a connection has ended, and whether the server received a reply. Writes the pause
// before the next one in milliseconds; returns false to give up.
bool attempts_ended(attempts_t *attempts, bool replied, uint32_t *pause);

#endif
