/* The native executor for a machine with one worker and one block of memory, such as WebAssembly. */

#define TINYGRAD_RNN_ALONE
#include "replay.c"

/* Bytes that a replay needs beside the memory of its operands; `room` as in tinygrad_rnn_replay. */
Size tinygrad_rnn_scratch(Size room) { return SCRATCH + PACKED + room * (Size)sizeof(Part); }

/* Replays records with `scratch`, which begins at a multiple of 64. Returns the number of a record that met an id out of
   range, or -1. */
Size tinygrad_rnn_replay(const Record *records, Size count, char *const *bases, Size room, char *scratch) {
    Pool pool = {1};
    Part *parts = room ? (Part *)(scratch + SCRATCH + PACKED) : NULL;
    Replay replay = {&pool, records, count, bases, NULL, 0, room, parts, -1, PTRDIFF_MAX, false, false};
    walk_alone(&replay, scratch);
    return atomic_load(&replay.failed);
}
