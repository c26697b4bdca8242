/* Replays a plan from stdin and writes the memory it leaves to stdout: numbers (workers, pieces, buffers), then of each
   piece (records, room) and its records, then of each buffer (bytes) and its content. All numbers are int64. */

#include "replay.c"

#include <stdio.h>

#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#endif

enum { MOST = 4096 };

static int64_t number(void) {
    int64_t found;
    if (fread(&found, sizeof found, 1, stdin) != 1) exit(3);
    return found;
}

static void *content(int64_t bytes) {
    void *found = allocate_aligned(bytes ? bytes : 1);
    if (!found || fread(found, 1, bytes, stdin) != (size_t)bytes) exit(4);
    return found;
}

int main(void) {
#ifdef _WIN32
    _setmode(_fileno(stdin), _O_BINARY);
    _setmode(_fileno(stdout), _O_BINARY);
#endif
    static Record *records[MOST];
    static char *bases[MOST];
    static int64_t count[MOST], room[MOST], bytes[MOST];
    int64_t workers = number(), pieces = number(), buffers = number();
    if (pieces > MOST || buffers > MOST || tinygrad_rnn_record_bytes() != (int)number()) return 5;
    for (int64_t i = 0; i < pieces; i++) {
        count[i] = number();
        room[i] = number();
        records[i] = content(count[i] * (int64_t)sizeof(Record));
    }
    for (int64_t i = 0; i < buffers; i++) {
        bytes[i] = number();
        bases[i] = content(bytes[i]);
    }
    Pool *pool = tinygrad_rnn_pool((int)workers);
    if (!pool) return 6;
    for (int64_t i = 0; i < pieces; i++) {
        Given given = {pool, records[i], count[i], bases, room[i]};
        if (tinygrad_rnn_replay(&given, NULL, 0) != -1) return 7;
    }
    for (int64_t i = 0; i < buffers; i++)
        if (fwrite(bases[i], 1, bytes[i], stdout) != (size_t)bytes[i]) return 8;
    fflush(stdout);
    _Exit(0); /* the workers are asleep */
}
