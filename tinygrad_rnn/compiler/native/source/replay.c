/* The native executor: walks through the calls of a plan. See call.h for what a call is, pool.h for the workers. */

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "call.h"
#include "elementwise.h"
#include "pool.h"

/* records.py has the same numbers: elementwise ones first, in the order of the list in elementwise.h */
#define ENTRY(name, type, expression) OP_##name,
enum {
    ELEMENTWISE(ENTRY) OP_where,
    MATMUL, SUM_ROWS, SUM_ALONG, TAKE, TAKE_BACK, FIND_EQUAL, ADD_EQUAL, SUBTRACT_ROWS, LOSS_AND_GRADIENT, MEAN_NATS, CHAIN,
    CONVERT, LOOP
};
#undef ENTRY

static char *place(const Part *part, const Call *call, int k) {
    return call->base[k] < 0 ? NULL : part->bases[call->base[k]] + call->offset[k] + part->t * call->turn[k];
}

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

/* Between float and double, in one piece; `type` is that of the result. */
static void convert(Part *part) {
    if (part->call->type == 0)
        for (long i = part->lo; i < part->hi; i++) ((float *)part->p[OUT])[i] = (float)((double *)part->p[A])[i];
    else
        for (long i = part->lo; i < part->hi; i++) ((double *)part->p[OUT])[i] = ((float *)part->p[A])[i];
}

typedef struct {
    Pool *pool;
    const Call *calls;
    long count;
    char *const *bases;
    double *seconds;    /* of each call, added up; NULL: not measured */
    long t;             /* step of a loop whose body these calls are part of */
    long room;          /* calls of the longest body of a loop among these, at most */
    Part *parts;        /* so many for each worker */
    atomic_long failed; /* number of a call that met an id out of range, or -1 */
} Replay;

/* Calls after a call that belong to it. */
static long followers(const Call *call) { return call->op == CHAIN || call->op == LOOP ? call->n[1] : 0; }

/* The part of n that a worker does; columns are shared in whole vectors. */
static long border(const Call *call, int worker, int workers) {
    long n = call->n[call->split == 2];
    if (worker == workers) return n;
    long at = n * worker / workers;
    return call->split == 2 ? at / 16 * 16 : at;
}

/* Make ready what a worker does of a call, at step t. */
static void prepare(Part *part, const Replay *replay, const Call *call, int worker, long t, void *scratch) {
    int workers = replay->pool->workers;
    part->call = call, part->bases = replay->bases, part->t = t, part->scratch = scratch, part->failed = false;
    part->lo = 0, part->hi = call->n[0];
    if (call->split) part->lo = border(call, worker, workers), part->hi = border(call, worker + 1, workers);
    for (int k = 0; k < OPERANDS; k++) part->p[k] = place(part, call, k);
    if (!call->split && worker > 0)
        part->run = nothing;
    else if (call->op == CONVERT)
        part->run = convert;
    else if (call->type == 0)
        prepare_f32(part);
    else
        prepare_f64(part);
}

static void perform(Replay *replay, const Call *call, int worker, void *scratch) {
    Part part;
    if (!call->split && worker > 0) return;
    prepare(&part, replay, call, worker, replay->t, scratch);
    part.run(&part);
    if (part.failed) atomic_store(&replay->failed, call - replay->calls);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Go through the calls of a loop at each step: what workers `from` to `to` - 1 do of them. `alone`: there are no other
   threads. */
static void go_round(Replay *replay, const Call *loop, int from, int to, bool alone, void *scratch) {
    Part *parts = replay->parts + from * replay->room, *end = parts;
    long steps = loop->n[0], ahead = loop->n[2] ? -1 : 1, t = loop->n[2] ? steps - 1 : 0;
    const Call *last = loop + 1 + loop->n[1];
    for (const Call *call = loop + 1; call < last; call += 1 + followers(call))
        for (int worker = from; worker < to; worker++) {
            prepare(end, replay, call, worker, t, scratch);
            for (int k = 0; k < OPERANDS; k++) end->turn[k] = ahead * call->turn[k];
            end->wait = !alone && (call->wait || replay->seconds);
            if (end->wait || end->run != nothing) end++;
        }
    for (; steps > 0; steps--, t += ahead)
        for (Part *part = parts; part < end; part++) {
            if (part->wait) wait_for_all(replay->pool);
            double start = replay->seconds ? now() : 0;
            part->t = t;
            part->run(part);
            for (int k = 0; k < OPERANDS; k++) part->p[k] = (char *)part->p[k] + part->turn[k];
            if (!replay->seconds) continue;
            if (!alone) wait_for_all(replay->pool);
            if (from == 0) replay->seconds[part->call - replay->calls] += now() - start;
        }
    for (Part *part = parts; part < end; part++)
        if (part->failed) atomic_store(&replay->failed, part->call - replay->calls);
}

static void walk(void *job, int worker) {
    Replay *replay = job;
    void *scratch = replay->pool->scratch[worker];
    for (long i = 0; i < replay->count; i += 1 + followers(&replay->calls[i])) {
        const Call *call = &replay->calls[i];
        if (call->wait || replay->seconds) wait_for_all(replay->pool);
        if (call->wait == ALL_WELL && atomic_load(&replay->failed) >= 0) return;
        if (call->op == LOOP) {
            go_round(replay, call, worker, worker + 1, false, scratch);
            continue;
        }
        double start = replay->seconds ? now() : 0;
        perform(replay, call, worker, scratch);
        if (!replay->seconds) continue;
        wait_for_all(replay->pool);
        if (worker == 0) replay->seconds[i] += now() - start;
    }
}

/* The same without threads: each call's parts in turn. */
static void walk_alone(Replay *replay, void *scratch) {
    int workers = replay->pool->workers;
    for (long i = 0; i < replay->count; i += 1 + followers(&replay->calls[i])) {
        if (replay->calls[i].wait == ALL_WELL && atomic_load(&replay->failed) >= 0) return;
        if (replay->calls[i].op == LOOP) {
            go_round(replay, &replay->calls[i], 0, workers, true, scratch);
            continue;
        }
        double start = replay->seconds ? now() : 0;
        for (int worker = 0; worker < workers; worker++) perform(replay, &replay->calls[i], worker, scratch);
        if (replay->seconds) replay->seconds[i] += now() - start;
    }
}

Pool *tinygrad_rnn_pool(int workers) { return make_pool(workers, SCRATCH); }

int tinygrad_rnn_call_bytes(void) { return sizeof(Call); }

/* Replays calls, at step t of the loop around them if there is one; `room` is the number of calls of the longest body of
   a loop among them, at most. Adds to `seconds`, unless it is NULL, the time of each call.
   Returns the number of a call that met an id out of range, -1 if there is none, -2 if there is not enough memory. */
long tinygrad_rnn_replay(Pool *pool, const Call *calls, long count, char *const *bases, double *seconds, long t,
                         long room) {
    Replay replay = {pool, calls, count, bases, seconds, t, room, NULL, -1};
    void *scratch = NULL;
    if (room && posix_memalign((void **)&replay.parts, LINE, room * pool->workers * sizeof(Part))) return -2;
    if (pool->owner == getpid() && pthread_mutex_trylock(&pool->busy) == 0) {
        run_all(pool, walk, &replay);
        pthread_mutex_unlock(&pool->busy);
    } else if (posix_memalign(&scratch, LINE, SCRATCH)) { /* another replay has the workers and their scratch, or they */
        replay.failed = -2;                               /* are in another process */
    } else {
        walk_alone(&replay, scratch);
    }
    free(scratch);
    free(replay.parts);
    return atomic_load(&replay.failed);
}
