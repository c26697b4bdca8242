/* Workers: threads that walk through the same records, each doing its part, and wait for each other where a record says
   so.

   They spin for a while when they wait (a record takes microseconds, waking a thread takes longer), then let others run,
   and between replays they sleep. */

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

/* Memory from the start of a cache line on, NULL if there is none. */
static void *lines(size_t bytes) {
#ifdef _WIN32
    return _aligned_malloc(bytes, LINE);
#else
    void *found = NULL;
    return posix_memalign(&found, LINE, bytes) ? NULL : found;
#endif
}

static void free_lines(void *memory) {
#ifdef _WIN32
    _aligned_free(memory);
#else
    free(memory);
#endif
}

typedef struct Pool Pool;
typedef void Work(void *job, int worker);

/* How often a worker has waited for all: in a cache line of its own, which the others read. */
typedef struct {
    _Alignas(LINE) atomic_uint count;
} Place;

struct Pool {
    int workers;
    pid_t owner;              /* after a fork the threads are not there */
    pthread_mutex_t busy;     /* one job at a time */
    Place *places;            /* of each worker */
    _Alignas(LINE) atomic_int jobs; /* number of jobs so far */
    int apart, longer;        /* replays from now on in which one worker does loops; how many after the next delays */
    pthread_mutex_t sleep;
    pthread_cond_t wake;
    Work *work;
    void *job;
    void **scratch;           /* of each worker */
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

/* Return when every worker is here; what one wrote before, all see after. True if one was so late that it cannot have
   been running. */
static bool wait_for_all(Pool *pool, int worker) {
    unsigned mine = atomic_load_explicit(&pool->places[worker].count, memory_order_relaxed) + 1;
    bool late = false;
    atomic_store_explicit(&pool->places[worker].count, mine, memory_order_release);
    for (int other = 0; other < pool->workers; other++)
        for (int spins = 0;; spins++) {
            unsigned theirs = atomic_load_explicit(&pool->places[other].count, memory_order_acquire);
            if (theirs == mine || theirs == mine + 1) break; /* it may be at the next wait already */
            if (spins < SPINS) {
                pause_a_little();
            } else {
                late = true;
                sched_yield();
            }
        }
    return late;
}

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
        wait_for_all(pool, worker.number);
    }
    return NULL; /* never: they end with the process */
}

/* Give every worker a job, take part as worker 0, and return when all are done. */
static void run_all(Pool *pool, Work *work, void *job) {
    pool->work = work, pool->job = job;
    pthread_mutex_lock(&pool->sleep);
    atomic_fetch_add(&pool->jobs, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->sleep);
    work(job, 0);
    wait_for_all(pool, 0);
}

static Pool *make_pool(int workers, size_t scratch) {
    Pool *pool = lines(sizeof *pool);
    if (!pool) return NULL;
    *pool = (Pool){.workers = workers, .owner = getpid()};
    pthread_mutex_init(&pool->busy, NULL);
    pthread_mutex_init(&pool->sleep, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->scratch = calloc(workers, sizeof *pool->scratch);
    pool->threads = calloc(workers, sizeof *pool->threads);
    if (!pool->scratch || !pool->threads) return NULL;
    if (!(pool->places = lines(workers * sizeof *pool->places))) return NULL;
    memset(pool->places, 0, workers * sizeof *pool->places);
    for (int number = 0; number < workers; number++)
        if (!(pool->scratch[number] = lines(scratch))) return NULL;
    for (int number = 1; number < workers; number++) {
        Worker *worker = malloc(sizeof *worker);
        if (!worker) return NULL;
        *worker = (Worker){pool, number};
        if (pthread_create(&pool->threads[number], NULL, serve, worker)) return NULL;
    }
    return pool;
}

#endif
