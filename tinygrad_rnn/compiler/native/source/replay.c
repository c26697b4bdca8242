/* The native executor: walks through the records of a plan. record.h says what a record is, pool.h what workers are. */

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "record.h"
#include "elementwise.h"
#include "operations.h" /* written when the library is built, by numbers.py */
#ifdef TINYGRAD_RNN_ALONE
#include "alone.h"
#else
#include "pool.h"
#endif

#define ENTRY(name, ...) OP_##name,
enum { ELEMENTWISE(ENTRY) OP_where, OPERATIONS(ENTRY) OP_loop };
#undef ENTRY

static char *place(const Part *part, const Record *record, int k) {
    if (record->base[k] < 0) return NULL;
    return part->bases[record->base[k]] + record->offset[k] + part->t * record->step_stride[k];
}

enum { MOST_DELAYS = 3 }; /* in a loop, after which worker 0 goes on alone: they do not run at the same time */
enum { MOST_APART = 31 }; /* replays in which loops are done by one worker, after many delays */

static void nothing(Part *part) { (void)part; }

#define TYPE 32
#include "real.h"
#include "gemm.h"
#include "kernels.h"
#undef TYPE
#define TYPE 64
#include "real.h"
#include "gemm.h"
#include "kernels.h"

/* Bytes that a worker has for itself: a chain wants its blocks, of doubles at most. */
enum { CHAIN_SCRATCH = BLOCKS * BLOCK * 8, SCRATCH = GEMM_SCRATCH > CHAIN_SCRATCH ? GEMM_SCRATCH : CHAIN_SCRATCH };
enum { PACKED = 2 << 20 }; /* bytes after them for matrices that the steps of a loop read */

typedef struct {
    Pool *pool;
    const Record *records;
    Size count;
    char *const *bases;
    double *seconds;    /* of each record, added up; NULL: not measured */
    Size t;             /* step of a loop whose body these records are part of */
    Size room;          /* records of the longest body of a loop among these, at most */
    Part *parts;        /* so many for each worker */
    atomic_ptrdiff_t failed; /* number of a record that met an id out of range, or -1 */
    atomic_ptrdiff_t taken_over; /* the turn of the loop from which on worker 0 does it alone */
    bool apart, was_late;   /* whether it does so from the start; whether it had to */
} Replay;

/* Records after a record that belong to it. */
static Size followers(const Record *record) {
    return record->op == OP_chain || record->op == OP_loop ? record->n[1] : 0;
}

/* The part of n that a worker does; columns are shared in whole vectors. */
static Size border(const Record *record, int worker, int workers) {
    Size n = record->n[record->split == 2];
    if (worker == workers) return n;
    Size at = n * worker / workers;
    return record->split > 1 ? at / 16 * 16 : at;
}

/* Make ready what one of so many workers does of a record, at step t. */
static void prepare(Part *part, const Replay *replay, const Record *record, int worker, int workers, Size t,
                    void *scratch) {
    part->record = record, part->bases = replay->bases, part->t = t, part->scratch = scratch, part->failed = false;
    part->lo = 0, part->hi = record->n[0];
    if (record->split) part->lo = border(record, worker, workers), part->hi = border(record, worker + 1, workers);
    for (int k = 0; k < OPERANDS; k++) part->p[k] = place(part, record, k);
    if (!record->split && worker > 0)
        part->run = nothing;
    else if (record->type == 0)
        prepare_f32(part);
    else
        prepare_f64(part);
}

static void perform(Replay *replay, const Record *record, int worker, void *scratch) {
    Part part;
    if (!record->split && worker > 0) return;
    prepare(&part, replay, record, worker, replay->pool->workers, replay->t, scratch);
    part.run(&part);
    if (part.failed) atomic_store(&replay->failed, record - replay->records);
}

#ifndef TINYGRAD_RNN_ALONE
static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}
#endif

/* Go through the records of a loop from a turn on: what workers `from` to `to` - 1 do of them. `alone`: without other
   threads. Returns the turn at which worker 0 takes over, or the number of steps. */
static Size go_round(Replay *replay, const Record *loop, int from, int to, bool alone, Size turn, void *scratch) {
    Part *parts = replay->parts + from * replay->room, *end = parts;
    Size steps = loop->n[0], ahead = loop->n[2] ? -1 : 1, t = loop->n[2] ? steps - 1 - turn : turn;
    const Record *last = loop + 1 + loop->n[1];
    char *packed = (char *)scratch + SCRATCH, *full = packed + PACKED;
    int delays = 0;
    for (const Record *record = loop + 1; record < last; record += 1 + followers(record))
        for (int worker = from; worker < (alone && record->split == 3 ? 1 : to); worker++) {
            prepare(end, replay, record, worker, alone && record->split == 3 ? 1 : replay->pool->workers, t, scratch);
            packed = record->type == 0 ? pack_f32(end, steps, packed, full) : pack_f64(end, steps, packed, full);
            for (int k = 0; k < OPERANDS; k++) end->step_stride[k] = ahead * record->step_stride[k];
            end->wait = !alone && (record->wait || replay->seconds);
            if (end->wait || end->run != nothing) end++;
        }
    for (; turn < steps; turn++, t += ahead) {
        bool late = false;
        if (!alone && turn >= atomic_load_explicit(&replay->taken_over, memory_order_relaxed)) break;
        for (Part *part = parts; part < end; part++) {
            if (part->wait) late |= wait_for_all(replay->pool, from);
            double start = replay->seconds ? now() : 0;
            part->t = t;
            part->run(part);
            for (int k = 0; k < OPERANDS; k++) part->p[k] = (char *)part->p[k] + part->step_stride[k];
            if (!replay->seconds) continue;
            if (!alone) wait_for_all(replay->pool, from);
            if (from == 0) replay->seconds[part->record - replay->records] += now() - start;
        }
        /* The others look at it before the turn after the next: there is a wait in between. */
        delays += late;
        if (late && delays == MOST_DELAYS && from == 0 && turn + 2 < steps) /* it counts for this loop alone */
            atomic_store(&replay->taken_over, turn + 2);
    }
    for (Part *part = parts; part < end; part++)
        if (part->failed) atomic_store(&replay->failed, part->record - replay->records);
    return turn;
}

#ifndef TINYGRAD_RNN_ALONE
static bool waits_within(const Record *loop) {
    for (const Record *record = loop + 1; record <= loop + loop->n[1]; record++)
        if (record->wait) return true;
    return false;
}

/* A loop in which workers wait for each other at each step takes a time slice a step if they do not run at the same
   time. So if others are late too often worker 0 goes on alone: it does the parts of all. */
static void go_together(Replay *replay, const Record *loop, int worker, void *scratch) {
    Size turn = 0;
    if (!replay->apart || !waits_within(loop)) turn = go_round(replay, loop, worker, worker + 1, false, 0, scratch);
    if (turn == loop->n[0]) return;
    wait_for_all(replay->pool, worker);
    if (worker == 0) {
        go_round(replay, loop, 0, replay->pool->workers, true, turn, scratch);
        replay->was_late = !replay->apart;
        atomic_store(&replay->taken_over, PTRDIFF_MAX);
    }
    wait_for_all(replay->pool, worker);
}

static void walk(void *job, int worker) {
    Replay *replay = job;
    void *scratch = replay->pool->scratch[worker];
    for (Size i = 0; i < replay->count; i += 1 + followers(&replay->records[i])) {
        const Record *record = &replay->records[i];
        if (record->wait || replay->seconds) wait_for_all(replay->pool, worker);
        if (record->wait == ALL_WELL && atomic_load(&replay->failed) >= 0) return;
        if (record->op == OP_loop) {
            go_together(replay, record, worker, scratch);
            continue;
        }
        double start = replay->seconds ? now() : 0;
        perform(replay, record, worker, scratch);
        if (!replay->seconds) continue;
        wait_for_all(replay->pool, worker);
        if (worker == 0) replay->seconds[i] += now() - start;
    }
}
#endif

/* The same without threads: each record's parts in turn. */
static void walk_alone(Replay *replay, void *scratch) {
    int workers = replay->pool->workers;
    for (Size i = 0; i < replay->count; i += 1 + followers(&replay->records[i])) {
        if (replay->records[i].wait == ALL_WELL && atomic_load(&replay->failed) >= 0) return;
        if (replay->records[i].op == OP_loop) {
            go_round(replay, &replay->records[i], 0, workers, true, 0, scratch);
            continue;
        }
        double start = replay->seconds ? now() : 0;
        for (int worker = 0; worker < workers; worker++) perform(replay, &replay->records[i], worker, scratch);
        if (replay->seconds) replay->seconds[i] += now() - start;
    }
}

#ifndef TINYGRAD_RNN_ALONE
/* What a replay is given each time; `room` is the number of records of the longest body of a loop among them. */
typedef struct {
    Pool *pool;
    const Record *records;
    Size count;
    char *const *bases;
    Size room;
} Given;

Pool *tinygrad_rnn_pool(int workers) { return make_pool(workers, SCRATCH + PACKED); }

int tinygrad_rnn_record_bytes(void) { return sizeof(Record); }

const char *tinygrad_rnn_operations(void) { return NAMES; }

/* Replays records, at step t of the loop around them if there is one. Adds to `seconds`, unless it is NULL, the time of
   each record. Returns the number of a record that met an id out of range, -1 if there is none, -2 if there is not
   enough memory. */
Size tinygrad_rnn_replay(const Given *given, double *seconds, Size t) {
    Pool *pool = given->pool;
    Size room = given->room;
    Replay replay = {pool, given->records, given->count, given->bases, seconds, t,
                     room, NULL,           -1,           PTRDIFF_MAX,  false,   false};
    void *scratch = NULL;
    if (room && !(replay.parts = lines(room * pool->workers * sizeof(Part)))) return -2;
    if (pool->owner == getpid() && pthread_mutex_trylock(&pool->busy) == 0) {
        replay.apart = pool->apart > 0 && !seconds;
        run_all(pool, walk, &replay);
        pool->longer = replay.was_late ? pool->longer * 2 + 1 : replay.apart ? pool->longer : pool->longer / 2;
        pool->longer = pool->longer > MOST_APART ? MOST_APART : pool->longer;
        pool->apart = replay.was_late ? pool->longer : replay.apart ? pool->apart - 1 : 0;
        pthread_mutex_unlock(&pool->busy);
    } else if (!(scratch = lines(SCRATCH + PACKED))) {
        replay.failed = -2; /* another replay has the workers and their scratch, or they are in another process */
    } else {
        walk_alone(&replay, scratch);
    }
    free_lines(scratch);
    free_lines(replay.parts);
    return atomic_load(&replay.failed);
}
#endif
