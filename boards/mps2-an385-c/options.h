// The options of the firmware: lj=SIGMA,EPSILON,CUTOFF patience=SECONDS.

#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "argon.h"

typedef struct {
    argon_t argon;
    // How long to wait for a server, and for an answer that it owes, in milliseconds.
    uint32_t patience;
} options_t;

// Parses the words after the first, which is the image's name. An omitted option keeps its value.
bool options_parse(const char *line, options_t *options);

#endif
