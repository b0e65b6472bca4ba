#include "options.h"

#include <string.h>

// Skips a word if the text begins with this word.
static bool skip(const char **text, const char *word)
{
    const size_t length = strlen(word);
    if (strncmp(*text, word, length) != 0)
        return false;
    *text += length;
    return true;
}

// Parses a decimal number. With at most 15 digits, a single division rounds correctly. C's strtod()
// allocates.
static bool number(const char **text, double *value)
{
    double digits = 0.0, scale = 1.0;
    int count = 0;
    bool point = false;
    for (;; ++*text) {
        if (**text == '.' && !point) {
            point = true;
        } else if (**text >= '0' && **text <= '9' && count < 15) {
            digits = 10.0 * digits + (**text - '0');
            scale *= point ? 10.0 : 1.0;
            count++;
        } else {
            break;
        }
    }
    *value = digits / scale;
    return count > 0;
}

// Parses a number above zero.
static bool size(const char **text, double *value)
{
    return number(text, value) && *value > 0.0;
}

bool options_parse(const char *line, options_t *options)
{
    const char *at = line + strcspn(line, " ");
    argon_t *argon = &options->argon;
    for (;;) {
        at += strspn(at, " ");
        if (*at == '\0')
            return true;
        double seconds;
        if (skip(&at, "lj=")) {
            if (!(size(&at, &argon->sigma) && skip(&at, ",") && size(&at, &argon->epsilon) && skip(&at, ",") &&
                  size(&at, &argon->cutoff)))
                return false;
        } else if (skip(&at, "patience=") && number(&at, &seconds) && seconds < 1e6) {
            options->patience = (uint32_t)(1000.0 * seconds);
        } else {
            return false;
        }
        if (*at != ' ' && *at != '\0')
            return false;
    }
}
