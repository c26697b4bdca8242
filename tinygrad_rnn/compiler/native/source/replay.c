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
    MATMUL, SUM_ROWS, SUM_ALONG, TAKE, TAKE_BACK, LOSS_AND_GRADIENT, MEAN_NATS, CHAIN, CONVERT
};
#undef ENTRY

static char *place(const Call *call, int operand, char *const *bases) {
    return call->base[operand] < 0 ? NULL : bases[call->base[operand]] + call->offset[operand];
}

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

/* Calls behind call i that belong to it. */
static long followers(const Call *call) { return call->op == CHAIN ? call->n[1] : 0; }

/* Between float and double, in one piece; `type` is that of the result. */
static void convert(const Part *part) {
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
    double *seconds;    /* of each call, the least so far; NULL: not measured */
    atomic_long failed; /* number of a call that met an id out of range, or -1 */
} Replay;

/* The part of n that a worker does; columns are shared in whole vectors. */
static long border(const Call *call, int worker, int workers) {
    long n = call->n[call->split == 2];
    if (worker == workers) return n;
    long at = n * worker / workers;
    return call->split == 2 ? at / 16 * 16 : at;
}

static void perform(Replay *replay, const Call *call, int worker, void *scratch) {
    int workers = replay->pool->workers;
    if (!call->split && worker > 0) return;
    Part part = {.call = call, .bases = replay->bases, .lo = 0, .hi = call->n[0], .scratch = scratch};
    if (call->split) part.lo = border(call, worker, workers), part.hi = border(call, worker + 1, workers);
    for (int k = 0; k < OPERANDS; k++) part.p[k] = place(call, k, replay->bases);
    if (call->op == CONVERT)
        convert(&part);
    else if (call->type == 0)
        perform_f32(&part);
    else
        perform_f64(&part);
    if (part.failed) atomic_store(&replay->failed, call - replay->calls);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void walk(void *job, int worker) {
    Replay *replay = job;
    for (long i = 0; i < replay->count; i += 1 + followers(&replay->calls[i])) {
        const Call *call = &replay->calls[i];
        if (call->wait || replay->seconds) wait_for_all(replay->pool);
        double start = replay->seconds ? now() : 0;
        perform(replay, call, worker, replay->pool->scratch[worker]);
        if (!replay->seconds) continue;
        wait_for_all(replay->pool);
        double seconds = now() - start;
        if (worker == 0 && seconds < replay->seconds[i]) replay->seconds[i] = seconds;
    }
}

/* The same without threads: each call's parts in turn. */
static void walk_alone(Replay *replay, void *scratch) {
    for (long i = 0; i < replay->count; i += 1 + followers(&replay->calls[i])) {
        double start = replay->seconds ? now() : 0;
        for (int worker = 0; worker < replay->pool->workers; worker++)
            perform(replay, &replay->calls[i], worker, scratch);
        if (replay->seconds) replay->seconds[i] = now() - start;
    }
}

Pool *tinygrad_rnn_pool(int workers) { return make_pool(workers, SCRATCH); }

int tinygrad_rnn_call_bytes(void) { return sizeof(Call); }

/* Returns the number of a call that met an id out of range, -1 if there is none, -2 if there is not enough memory. */
long tinygrad_rnn_replay(Pool *pool, const Call *calls, long count, char *const *bases, double *seconds) {
    Replay replay = {pool, calls, count, bases, seconds, -1};
    if (pool->owner == getpid() && pthread_mutex_trylock(&pool->busy) == 0) {
        run_all(pool, walk, &replay);
        pthread_mutex_unlock(&pool->busy);
    } else { /* another replay has the workers and their scratch, or they are in another process */
        void *scratch = NULL;
        if (posix_memalign(&scratch, LINE, SCRATCH)) return -2;
        walk_alone(&replay, scratch);
        free(scratch);
    }
    return atomic_load(&replay.failed);
}
