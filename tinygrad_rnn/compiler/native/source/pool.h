/* A pool of worker threads that run the same records, each its part, with barriers where records ask for them.

   At a barrier a worker spins for a while (a record takes microseconds, waking a thread takes longer), then yields the
   core. Between replays the threads sleep on a condition variable. */

#ifndef POOL_H
#define POOL_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef _WIN32
#include <malloc.h>
#endif

enum { SPINS = 4000, LINE = 64 };

/* Allocate memory that is aligned to cache lines; NULL if there is none. */
static void *allocate_aligned(size_t bytes) {
#ifdef _WIN32
    return _aligned_malloc(bytes, LINE);
#else
    void *found = NULL;
    return posix_memalign(&found, LINE, bytes) ? NULL : found;
#endif
}

static void free_aligned(void *memory) {
#ifdef _WIN32
    _aligned_free(memory);
#else
    free(memory);
#endif
}

typedef struct Pool Pool;
typedef void Work(void *job, int worker);

/* Number of barriers that a worker has arrived at, in a cache line of its own, as all others read it. */
typedef struct {
    _Alignas(LINE) atomic_uint count;
} Arrivals;

struct Pool {
    int workers;
    pid_t owner;              /* a process forked from it does not have the threads */
    pthread_mutex_t busy;     /* one job at a time */
    Arrivals *arrivals;       /* one for each worker */
    _Alignas(LINE) atomic_int jobs; /* number of jobs so far */
    int serial, backoff;      /* the next `serial` replays run loops on worker 0 alone; `serial` after a takeover */
    pthread_mutex_t sleep;
    pthread_cond_t wake;
    Work *work;
    void *job;
    void **scratch;           /* one for each worker */
    pthread_t *threads;
};

typedef struct {
    Pool *pool;
    int number;
} Worker;

static inline void pause_a_little(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* A barrier: return when every worker has arrived. What each wrote before it all others see after it. Returns true if
   one was so late that it was probably not running on a core. */
static bool barrier(Pool *pool, int worker) {
    unsigned mine = atomic_load_explicit(&pool->arrivals[worker].count, memory_order_relaxed) + 1;
    bool late = false;
    atomic_store_explicit(&pool->arrivals[worker].count, mine, memory_order_release);
    for (int other = 0; other < pool->workers; other++)
        for (int spins = 0;; spins++) {
            unsigned theirs = atomic_load_explicit(&pool->arrivals[other].count, memory_order_acquire);
            if (theirs == mine || theirs == mine + 1) break; /* it may be at the next barrier already */
            if (spins < SPINS) {
                pause_a_little();
            } else {
                late = true;
                sched_yield();
            }
        }
    return late;
}

/* The main function of a thread: run jobs, from the first on. */
static void *serve(void *argument) {
    Worker worker = *(Worker *)argument;
    Pool *pool = worker.pool;
    free(argument);
    for (int done = 0;; done++) {
        int spins = 0;
        while (atomic_load_explicit(&pool->jobs, memory_order_acquire) == done && spins++ < SPINS) pause_a_little();
        pthread_mutex_lock(&pool->sleep);
        while (atomic_load(&pool->jobs) == done) pthread_cond_wait(&pool->wake, &pool->sleep);
        pthread_mutex_unlock(&pool->sleep);
        pool->work(pool->job, worker.number);
        barrier(pool, worker.number);
    }
    return NULL; /* not reached: the thread ends with the process */
}

/* Run a job on all workers, the calling thread as worker 0, and return when all are done. */
static void run_all(Pool *pool, Work *work, void *job) {
    pool->work = work, pool->job = job;
    pthread_mutex_lock(&pool->sleep);
    atomic_fetch_add(&pool->jobs, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->sleep);
    work(job, 0);
    barrier(pool, 0);
}

/* Start the threads of a pool with `scratch` bytes for each; NULL if that fails. What was allocated until then is not
   freed, as threads may be using it. */
static Pool *make_pool(int workers, size_t scratch) {
    Pool *pool = allocate_aligned(sizeof *pool);
    if (!pool) return NULL;
    *pool = (Pool){.workers = workers, .owner = getpid()};
    pthread_mutex_init(&pool->busy, NULL);
    pthread_mutex_init(&pool->sleep, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->scratch = calloc(workers, sizeof *pool->scratch);
    pool->threads = calloc(workers, sizeof *pool->threads);
    if (!pool->scratch || !pool->threads) return NULL;
    if (!(pool->arrivals = allocate_aligned(workers * sizeof *pool->arrivals))) return NULL;
    memset(pool->arrivals, 0, workers * sizeof *pool->arrivals);
    for (int number = 0; number < workers; number++)
        if (!(pool->scratch[number] = allocate_aligned(scratch))) return NULL;
    for (int number = 1; number < workers; number++) {
        Worker *worker = malloc(sizeof *worker);
        if (!worker) return NULL;
        *worker = (Worker){pool, number};
        if (pthread_create(&pool->threads[number], NULL, serve, worker)) return NULL;
    }
    return pool;
}

#endif
