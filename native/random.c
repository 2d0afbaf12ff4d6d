#include "random.h"

#include <sys/random.h>

bool dp_random_next(struct dp_random *random, uint64_t *number) {
    if (!random->seeded)
        return getrandom(number, sizeof *number, 0) == sizeof *number;
    *number = dp_random_follow(&random->state);
    return true;
}
