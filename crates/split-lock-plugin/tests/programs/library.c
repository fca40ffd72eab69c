#include "sites.h"

/* The same in a shared library. */
REPEAT(split_in_library, "lock orl $1, (%0)", "r"(at))
REPEAT(near_in_library, "lock orl $1, (%0)", "r"(at))
