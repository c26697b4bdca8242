/* The loops of a plan, for the type that real.h has set: REAL, and LANES of them in 64 bytes. */

/* x = k ln 2 + r, |r| <= ln(2) / 2: return exp(r) - 1, and 2^(k + bias - EXP_BIAS) in *scale. */
static inline REAL NAME(exp_part)(REAL x, BITS bias, REAL *scale) {
    REAL shifted = x * (REAL)1.44269504088896340736 + EXP_SHIFT; /* so large that it is rounded: k is its last bits */
    REAL k = shifted - EXP_SHIFT;
    REAL r = (x - k * EXP_LN2_HIGH) - k * EXP_LN2_LOW;
    BITS bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + bias) << EXP_MANTISSA;
    memcpy(scale, &bits, sizeof bits);
    return r + r * r * EXP_TAIL(r);
}

/* exp(x); 0 below the smallest normal numbers. */
static inline REAL NAME(exp)(REAL x) {
    REAL bounded = x < EXP_LEAST ? EXP_LEAST : x > EXP_MOST ? EXP_MOST : x; /* NaN stays */
    REAL half, p = NAME(exp_part)(bounded, EXP_BIAS - 1, &half); /* 2^128 is no float, 2^127 is one */
    REAL y = 2 * (half + half * p);
    y = x < EXP_LEAST ? 0 : y;
    return x > EXP_MOST ? (REAL)INFINITY : y;
}

/* tanh(x) = -e / (2 + e) with e = exp(-2 |x|) - 1, which is exact to rounding near 0 too. */
static inline REAL NAME(tanh)(REAL x) {
    REAL a = x < 0 ? -x : x;
    a = a > EXP_TANH_ONE ? EXP_TANH_ONE : a; /* from there on it rounds to 1 */
    REAL scale, p = NAME(exp_part)(-2 * a, EXP_BIAS, &scale);
    REAL e = scale * p + (scale - 1);
    return COPYSIGN(e / (2 + e), x);
}

static inline REAL NAME(sigmoid)(REAL x) { return 1 / (1 + NAME(exp)(-x)); }

/* -- elementwise: out = f(a, b) over n[0] x n[1] x n[2] ---------------------------------------------------------- */

#define LOOP(name, expression)                                                                                       \
    static void NAME(name)(long n, REAL *out, long so, const REAL *a, long sa, const REAL *b, long sb) {             \
        if (so == 1 && sa == 1 && sb == 1) {                                                                         \
            for (long i = 0; i < n; i++) { REAL x = a[i], y = b[i]; (void)y; out[i] = expression; }                  \
        } else if (so == 1 && sa == 1 && sb == 0) {                                                                  \
            REAL y = *b; (void)y;                                                                                    \
            for (long i = 0; i < n; i++) { REAL x = a[i]; out[i] = expression; }                                     \
        } else if (so == 1 && sa == 0 && sb == 1) {                                                                  \
            REAL x = *a;                                                                                             \
            for (long i = 0; i < n; i++) { REAL y = b[i]; (void)y; out[i] = expression; }                            \
        } else {                                                                                                     \
            for (long i = 0; i < n; i++) {                                                                           \
                REAL x = a[i * sa], y = b[i * sb]; (void)y; out[i * so] = expression;                                \
            }                                                                                                        \
        }                                                                                                            \
    }

LOOP(loop_add, x + y)
LOOP(loop_subtract, x - y)
LOOP(loop_multiply, x * y)
LOOP(loop_divide, x / y)
LOOP(loop_maximum, x > y || x != x ? x : y)
LOOP(loop_minimum, x < y || x != x ? x : y)
LOOP(loop_copy, x)
LOOP(loop_negative, -x)
LOOP(loop_sqrt, SQRT(x))
LOOP(loop_relu, x > 0 || x != x ? x : 0)
LOOP(loop_exp, NAME(exp)(x))
LOOP(loop_tanh, NAME(tanh)(x))
LOOP(loop_sigmoid, NAME(sigmoid)(x))
LOOP(loop_log, LOG(x))
#undef LOOP

typedef void NAME(Loop)(long, REAL *, long, const REAL *, long, const REAL *, long);

static NAME(Loop) *const NAME(loops)[] = {
    NAME(loop_add),  NAME(loop_subtract), NAME(loop_multiply), NAME(loop_divide), NAME(loop_maximum),
    NAME(loop_minimum), NAME(loop_copy),  NAME(loop_negative), NAME(loop_sqrt),   NAME(loop_relu),
    NAME(loop_exp),  NAME(loop_tanh),     NAME(loop_sigmoid),  NAME(loop_log),
};

/* Transposing copies: both sides in squares of a few cache lines. */
static void NAME(turn)(long n, long m, REAL *out, const REAL *a, long sa) {
    enum { SIDE = 16 };
    for (long i = 0; i < n; i += SIDE)
        for (long j = 0; j < m; j += SIDE)
            for (long r = i; r < n && r < i + SIDE; r++)
                for (long c = j; c < m && c < j + SIDE; c++) out[r * m + c] = a[r + c * sa];
}

static void NAME(elementwise)(const Part *part, int kind) {
    const Call *call = part->call;
    long n[3] = {part->hi - part->lo, call->n[1], call->n[2]};
    REAL number[OPERANDS] = {0, (REAL)call->x[A], (REAL)call->x[B]};
    REAL *p[3];
    long s[3][3];
    for (int k = 0; k <= B; k++) {
        for (int d = 0; d < 3; d++) s[k][d] = call->s[k][d];
        p[k] = (REAL *)part->p[k] + part->lo * s[k][0];
        if (call->base[k] < 0) p[k] = &number[k];
    }
    /* axes that lie behind each other in every operand are one */
    int outer = 0;
    for (int d = 1; d < 3; d++) {
        bool one = true;
        for (int k = 0; k <= B; k++) one = one && s[k][outer] == s[k][d] * n[d];
        if (one || n[outer] == 1) {
            n[outer] = one ? n[outer] * n[d] : n[d];
            for (int k = 0; k <= B; k++) s[k][outer] = s[k][d];
        } else if (n[d] != 1) {
            outer++;
            n[outer] = n[d];
            for (int k = 0; k <= B; k++) s[k][outer] = s[k][d];
        }
    }
    NAME(Loop) *loop = NAME(loops)[kind];
    if (outer == 0) {
        loop(n[0], p[OUT], s[OUT][0], p[A], s[A][0], p[B], s[B][0]);
    } else if (outer == 1 && kind == COPY && s[A][0] == 1 && s[OUT][1] == 1 && s[OUT][0] == n[1]) {
        NAME(turn)(n[0], n[1], p[OUT], p[A], s[A][1]);
    } else {
        int last = outer;
        long middle = outer == 2 ? n[1] : 1;
        for (long i = 0; i < n[0]; i++)
            for (long j = 0; j < middle; j++) {
                long at[3];
                for (int k = 0; k <= B; k++) at[k] = i * s[k][0] + (outer == 2 ? j * s[k][1] : 0);
                loop(n[last], p[OUT] + at[OUT], s[OUT][last], p[A] + at[A], s[A][last], p[B] + at[B], s[B][last]);
            }
    }
}

/* The n[1] calls that follow, block by block over n[0] elements: what only they read stays in cache, in lines. */
static void NAME(chain)(const Part *part) {
    enum { BLOCK = 2048 };
    const Call *first = part->call + 1;
    REAL *lines = part->scratch;
    for (long at = part->lo; at < part->hi; at += BLOCK) {
        long count = part->hi - at < BLOCK ? part->hi - at : BLOCK;
        for (const Call *call = first; call < first + part->call->n[1]; call++) {
            REAL number[OPERANDS], *p[OPERANDS];
            for (int k = OUT; k <= B; k++) {
                number[k] = (REAL)call->x[k];
                p[k] = call->base[k] == -1 ? &number[k]
                       : call->base[k] < 0 ? lines + (-2 - call->base[k]) * BLOCK
                                           : (REAL *)place(call, k, part->bases) + at * call->s[k][0];
            }
            NAME(loops)[call->op](count, p[OUT], 1, p[A], call->s[A][0], p[B], call->s[B][0]);
        }
    }
}

/* -- products ---------------------------------------------------------------------------------------------------- */

static void NAME(matmul)(const Part *part) {
    const Call *call = part->call;
    long M = call->n[0], N = call->n[1];
    REAL *c = part->p[OUT];
    const REAL *a = part->p[A], *b = part->p[B];
    long lo = part->lo, count = part->hi - part->lo;
    if (call->split == 2) {
        c += lo, b += lo * call->s[B][1], N = count;
    } else {
        c += lo * call->s[OUT][0], a += lo * call->s[A][0], M = count;
    }
    if (M > 0 && N > 0)
        NAME(gemm)(M, N, call->n[2], a, call->s[A][0], call->s[A][1], b, call->s[B][0], call->s[B][1], c,
                   call->s[OUT][0], part->scratch);
}

/* -- sums over the first axis: out (n[1]) = sum of a (n[0], n[1]) ------------------------------------------------- */

static void NAME(sum)(const Part *part) {
    const Call *call = part->call;
    const REAL *a = part->p[A];
    REAL *out = part->p[OUT];
    enum { WIDE = 8 * LANES };
    for (long j = part->lo; j < part->hi; j += WIDE) {
        long width = part->hi - j < WIDE ? part->hi - j : WIDE;
        REAL total[WIDE] = {0};
        for (long i = 0; i < call->n[0]; i++) {
            const REAL *row = a + i * call->s[A][0] + j;
            if (width == WIDE)
                for (int k = 0; k < WIDE; k++) total[k] += row[k];
            else
                for (long k = 0; k < width; k++) total[k] += row[k];
        }
        memcpy(out + j, total, width * sizeof(REAL));
    }
}

/* -- lookups: ids in B, in rows of n[2]; n[3] is the number of rows of the table ------------------------------------ */

static inline int64_t NAME(id)(const Call *call, const int64_t *ids, long row) {
    return ids[row / call->n[2] * call->s[B][0] + row % call->n[2] * call->s[B][1]];
}

/* The row of the table that an id names, from the end if it is negative; -1 if there is none. */
static inline long NAME(row)(Part *part, long r) {
    const Call *call = part->call;
    int64_t id = NAME(id)(call, part->p[B], r), count = call->n[3];
    id = id < 0 ? id + count : id;
    bool there = id >= 0 && id < count;
    part->failed = part->failed || !there;
    return there ? id : -1;
}

/* out (n[0], n[1]) = rows of a (n[3], n[1]) */
static void NAME(take)(Part *part) {
    const Call *call = part->call;
    for (long r = part->lo; r < part->hi; r++) {
        long row = NAME(row)(part, r);
        if (row >= 0)
            memcpy((REAL *)part->p[OUT] + r * call->s[OUT][0], (REAL *)part->p[A] + row * call->s[A][0],
                   call->n[1] * sizeof(REAL));
    }
}

/* out (n[3], n[1]) = 0, then rows of a (n[0], n[1]) added, in their order */
static void NAME(take_back)(Part *part) {
    const Call *call = part->call;
    long D = call->n[1], lo = part->lo, width = part->hi - part->lo;
    REAL *out = (REAL *)part->p[OUT] + lo;
    for (long v = 0; v < call->n[3]; v++) memset(out + v * D, 0, width * sizeof(REAL));
    for (long r = 0; r < call->n[0]; r++) {
        long row = NAME(row)(part, r);
        const REAL *more = (REAL *)part->p[A] + r * call->s[A][0] + lo;
        if (row >= 0)
            for (long j = 0; j < width; j++) out[row * D + j] += more[j];
    }
}

/* -- the loss: cross-entropy of logits a (n[0], n[1]), and x[A] times its gradient, in out ------------------------- */

static REAL NAME(largest)(long n, const REAL *a) {
    REAL most = a[0];
#pragma omp simd reduction(max : most)
    for (long i = 0; i < n; i++) most = a[i] > most ? a[i] : most;
    return most;
}

static REAL NAME(exps)(long n, REAL *out, const REAL *a, REAL most) {
    REAL total = 0;
#pragma omp simd reduction(+ : total)
    for (long i = 0; i < n; i++) {
        REAL y = NAME(exp)(a[i] - most);
        out[i] = y;
        total += y;
    }
    return total;
}

/* Positions that count: those whose target in B is not x[B]. */
static long NAME(positions)(const Call *call, const int64_t *targets) {
    long count = 0;
    for (long r = 0; r < call->n[0]; r++) count += NAME(id)(call, targets, r) != (int64_t)call->x[B];
    return count;
}

/* Writes the nats of each row to C (double), for `mean` to add up: whatever the number of workers, in one order. */
static void NAME(loss_and_gradient)(Part *part) {
    const Call *call = part->call;
    const int64_t *targets = part->p[B];
    long V = call->n[1];
    REAL weight = (REAL)(call->x[A] / (double)NAME(positions)(call, targets));
    for (long r = part->lo; r < part->hi; r++) {
        const REAL *a = (REAL *)part->p[A] + r * call->s[A][0];
        REAL *out = (REAL *)part->p[OUT] + r * call->s[OUT][0];
        int64_t target = NAME(id)(call, targets, r);
        if (target == (int64_t)call->x[B]) {
            memset(out, 0, V * sizeof(REAL));
            ((double *)part->p[C])[r] = 0;
            continue;
        }
        if (target < 0 || target >= V) {
            part->failed = true;
            return;
        }
        REAL most = NAME(largest)(V, a), shifted = a[target] - most;
        REAL total = NAME(exps)(V, out, a, most), factor = weight / total;
        for (long j = 0; j < V; j++) out[j] *= factor;
        out[target] -= weight;
        ((double *)part->p[C])[r] = log((double)total) - (double)shifted;
    }
}

/* out = the mean of the nats in A */
static void NAME(mean_nats)(const Part *part) {
    const Call *call = part->call;
    double total = 0;
    for (long r = 0; r < call->n[0]; r++) total += ((double *)part->p[A])[r];
    *(REAL *)part->p[OUT] = (REAL)(total / (double)NAME(positions)(call, part->p[B]));
}

/* -- one call ----------------------------------------------------------------------------------------------------- */

static void NAME(perform)(Part *part) {
    switch (part->call->op) {
    case MATMUL: NAME(matmul)(part); break;
    case SUM: NAME(sum)(part); break;
    case TAKE: NAME(take)(part); break;
    case TAKE_BACK: NAME(take_back)(part); break;
    case LOSS_AND_GRADIENT: NAME(loss_and_gradient)(part); break;
    case MEAN_NATS: NAME(mean_nats)(part); break;
    case CHAIN: NAME(chain)(part); break;
    default: NAME(elementwise)(part, part->call->op);
    }
}
