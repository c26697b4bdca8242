/* The native executor for a machine with one worker and one block of memory, such as WebAssembly. */

#define TINYGRAD_RNN_ALONE
#include "replay.c"

/* Bytes of scratch memory that a replay needs; `room`: records of the longest body of a loop. */
Size tinygrad_rnn_scratch(Size room) { return SCRATCH + PACKED + room * (Size)sizeof(Part); }

/* Replay records with `scratch`, aligned to 64 bytes. Returns the number of a record with an id out of range, or -1. */
Size tinygrad_rnn_replay(const Record *records, Size count, char *const *bases, Size room, char *scratch) {
    Pool pool = {1};
    Part *parts = room ? (Part *)(scratch + SCRATCH + PACKED) : NULL;
    Replay replay = {&pool, records, count, bases, NULL, 0, room, parts, -1, PTRDIFF_MAX, false, false};
    walk_alone(&replay, scratch);
    return atomic_load(&replay.failed);
}
