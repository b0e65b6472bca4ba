#include "attempts.h"

enum { LIMIT = 5, FIRST = 100 };

bool attempts_ended(attempts_t *attempts, bool replied, uint32_t *pause)
{
    *pause = FIRST;
    if (replied) {
        attempts->failures = 0;
        return true;
    }
    // 100, 200, 400 and 800 ms; the fifth failure is the last.
    *pause <<= attempts->failures;
    return ++attempts->failures < LIMIT;
}
