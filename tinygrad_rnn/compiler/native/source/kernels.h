/* The kernels, for the type that real.h has set: REAL, and LANES of them in 64 bytes. Products are in gemm.h. */

#include "functions.h"
#include "gemm.h"

/* -- elementwise: out = f(a, b), or f(a, b, c) with truth values c, over n[0] x n[1] x n[2] ------------------------ */

/* The usual strides have loops of their own, which the compiler vectorizes. */
#define EACH(name, type)                                                                                             \
    static void NAME(loop_##name)(Size n, void *const *p, const Size *s) {                                           \
        type *out = p[OUT];                                                                                          \
        const REAL *a = p[A], *b = p[B];                                                                             \
        if (s[OUT] == 1 && s[A] == 1 && s[B] == 1) {                                                                 \
            for (Size i = 0; i < n; i++) { REAL x = a[i], y = b[i]; (void)y; out[i] = VALUE_##name; }                \
        } else if (s[OUT] == 1 && s[A] == 1 && s[B] == 0) {                                                          \
            REAL y = *b; (void)y;                                                                                    \
            for (Size i = 0; i < n; i++) { REAL x = a[i]; out[i] = VALUE_##name; }                                   \
        } else if (s[OUT] == 1 && s[A] == 0 && s[B] == 1) {                                                          \
            REAL x = *a;                                                                                             \
            for (Size i = 0; i < n; i++) { REAL y = b[i]; (void)y; out[i] = VALUE_##name; }                          \
        } else {                                                                                                     \
            for (Size i = 0; i < n; i++) {                                                                           \
                REAL x = a[i * s[A]], y = b[i * s[B]]; (void)y; out[i * s[OUT]] = VALUE_##name;                      \
            }                                                                                                        \
        }                                                                                                            \
    }

ELEMENTWISE(EACH)
#undef EACH

static void NAME(loop_where)(Size n, void *const *p, const Size *s) {
    REAL *out = p[OUT];
    const REAL *a = p[A], *b = p[B];
    const uint8_t *c = p[C];
    if (s[C] == 0) { /* typically one truth value for each row */
        const REAL *from = *c ? a : b;
        Size step = *c ? s[A] : s[B];
        for (Size i = 0; i < n; i++) out[i * s[OUT]] = from[i * step];
    } else if (s[OUT] == 1 && s[C] == 1 && s[A] <= 1 && s[B] <= 1 && s[A] >= 0 && s[B] >= 0) {
        /* both values are read whatever c is, so that the loop is vectorized */
        if (s[A] && s[B])
            for (Size i = 0; i < n; i++) { REAL x = a[i], y = b[i]; out[i] = c[i] ? x : y; }
        else if (s[A])
            for (Size i = 0; i < n; i++) { REAL x = a[i], y = *b; out[i] = c[i] ? x : y; }
        else
            for (Size i = 0; i < n; i++) { REAL x = *a, y = b[i * s[B]]; out[i] = c[i] ? x : y; }
    } else {
        for (Size i = 0; i < n; i++) out[i * s[OUT]] = c[i * s[C]] ? a[i * s[A]] : b[i * s[B]];
    }
}

#define ENTRY(name, type) NAME(loop_##name),
static Loop *const NAME(loops)[] = {ELEMENTWISE(ENTRY) NAME(loop_where)};
#undef ENTRY

#define ENTRY(name, type) sizeof(type),
static const uint8_t NAME(result_bytes)[] = {ELEMENTWISE(ENTRY) sizeof(REAL)};
#undef ENTRY

/* Bytes of an element of an operand. */
static inline Size NAME(bytes)(int op, int operand) {
    return operand == OUT ? NAME(result_bytes)[op] : operand == C && op == OP_where ? 1 : (Size)sizeof(REAL);
}

/* A copy that transposes, in tiles of SIDE x SIDE. */
static void NAME(transposed)(Part *part) {
    enum { SIDE = 16 };
    Size n = part->n[1], m = part->n[2], sa = part->s[2][A];
    REAL *out = part->p[OUT];
    const REAL *a = part->p[A];
    for (Size i = 0; i < n; i += SIDE)
        for (Size j = 0; j < m; j += SIDE)
            for (Size r = i; r < n && r < i + SIDE; r++)
                for (Size c = j; c < m && c < j + SIDE; c++) out[r * m + c] = a[r + c * sa];
}

/* An elementwise record over one merged axis. */
static void NAME(line)(Part *part) { part->loop(part->n[2], part->p, part->s[2]); }

/* An elementwise record over up to three axes. */
static void NAME(lines)(Part *part) {
    for (Size i = 0; i < part->n[0]; i++)
        for (Size j = 0; j < part->n[1]; j++) {
            void *row[OPERANDS];
            for (int k = 0; k < OPERANDS; k++)
                row[k] = (char *)part->p[k] +
                         (i * part->s[0][k] + j * part->s[1][k]) * NAME(bytes)(part->record->op, k);
            part->loop(part->n[2], row, part->s[2]);
        }
}

/* Put numbers in memory, merge axes that are contiguous in every operand (they end up last), and choose the loop. */
static void NAME(prepare_elementwise)(Part *part) {
    const Record *record = part->record;
    REAL *number = part->number.NAME(of);
    Size n[3] = {part->hi - part->lo, record->n[1], record->n[2]};
    part->run = nothing;
    if (n[0] <= 0 || n[1] <= 0 || n[2] <= 0) return;
    for (int k = 0; k < OPERANDS; k++) {
        number[k] = (REAL)record->x[k];
        part->p[k] = record->base[k] < 0 ? (void *)&number[k]
                                       : (char *)part->p[k] + part->lo * record->s[k][0] * NAME(bytes)(record->op, k);
    }
    int first = 3; /* the outermost axis so far */
    for (int d = 2; d >= 0; d--) {
        bool one = first < 3;
        for (int k = 0; k < OPERANDS; k++) one = one && record->s[k][d] == part->s[first][k] * part->n[first];
        if (one) {
            part->n[first] *= n[d];
            continue;
        }
        if (first == 3 || (part->n[first] != 1 && n[d] != 1)) first--;
        else if (n[d] == 1) continue;
        part->n[first] = n[d];
        for (int k = 0; k < OPERANDS; k++) part->s[first][k] = record->s[k][d];
    }
    for (int d = 0; d < first; d++) {
        part->n[d] = 1;
        for (int k = 0; k < OPERANDS; k++) part->s[d][k] = 0;
    }
    bool transposes = first == 1 && record->op == OP_copy && part->s[1][A] == 1 && part->s[2][OUT] == 1;
    part->loop = NAME(loops)[record->op];
    part->run = first == 2 ? NAME(line) : transposes && part->s[1][OUT] == part->n[2] ? NAME(transposed) : NAME(lines);
}

/* A chain: the n[1] records that follow, fused, block by block over n[0] elements. */
static void NAME(chain)(Part *part) {
    const Record *first = part->record + 1;
    REAL *blocks = part->scratch;
    for (Size at = part->lo; at < part->hi; at += BLOCK) {
        Size count = part->hi - at < BLOCK ? part->hi - at : BLOCK;
        for (const Record *record = first; record < first + part->record->n[1]; record++) {
            REAL number[OPERANDS];
            void *p[OPERANDS];
            Size steps[OPERANDS];
            for (int k = 0; k < OPERANDS; k++) {
                number[k] = (REAL)record->x[k];
                steps[k] = record->base[k] == -1 ? 0 : record->s[k][0];
                p[k] = record->base[k] == -1  ? (void *)&number[k]
                       : record->base[k] < -1 ? (void *)(blocks + (-2 - record->base[k]) * BLOCK)
                                            : address(part, record, k) + at * steps[k] * NAME(bytes)(record->op, k);
            }
            NAME(loops)[record->op](count, p, steps);
        }
    }
}

/* -- products ---------------------------------------------------------------------------------------------------- */

static void NAME(matmul)(Part *part) {
    const Record *record = part->record;
    Size M = record->n[0], N = record->n[1], K = record->n[2], lo = part->lo, count = part->hi - part->lo;
    Size ak = record->s[A][1], bk = part->s[0][B], bn = record->s[B][1];
    /* With few rows the time is that of reading the matrix. If it is larger than the L1 cache, odd steps of a loop run
       through K backward: what the step before read last is still in the cache. */
    bool back = part->t & 1 && M <= 2 * GEMM_ROWS && bn == 1 && N >= GEMM_LANES && NAME(is_large)(N, K);
    REAL *c = part->p[OUT];
    const REAL *a = part->p[A], *b = part->p[B], *more = part->p[C];
    bool packed = part->n[1] == GEMM_PACKED;
    if (record->split == 2)
        c += lo, b += packed ? 0 : lo * bn, N = count, more = more ? more + lo : NULL;
    else
        c += lo * record->s[OUT][0], a += lo * record->s[A][0], M = count,
        more = more ? more + lo * record->s[C][0] : NULL;
    if (M <= 0 || N <= 0) return;
    if (packed) {
        NAME(gemm_panels)(GEMM_PACKED, M, N, K, a, record->s[A][0], ak, b, 0, 1, c, record->s[OUT][0], more,
                          record->s[C][0], part->scratch);
        return;
    }
    if (back) a += (K - 1) * ak, b += (K - 1) * bk, ak = -ak, bk = -bk;
    NAME(gemm)(record->n[0], M, N, K, a, record->s[A][0], ak, b, bk, bn, c, record->s[OUT][0], more,
               record->s[C][0], part->scratch);
}

/* The part of a worker of a product of a transposed matrix, A (n[0], n[2]) with strides 1 and s[A][1], and a column. */
static void NAME(vector)(Part *part) {
    Size N = part->n[0], K = part->n[1], ak = part->s[0][A], bk = part->s[0][B];
    const REAL *a = part->p[A], *b = part->p[B];
    if (part->t & 1 && part->n[2]) a += (K - 1) * ak, b += (K - 1) * bk, ak = -ak, bk = -bk;
    NAME(gemm_panels)(GEMM_IN_PLACE, 1, N, K, b, 0, bk, a, ak, 1, part->p[OUT], N, part->p[C], N, part->scratch);
}

static void NAME(prepare_vector)(Part *part) {
    const Record *record = part->record;
    Size lo = part->lo, count = part->hi - lo;
    part->n[0] = count, part->n[1] = record->n[2], part->n[2] = NAME(is_large)(record->n[0], record->n[2]);
    part->s[0][A] = record->s[A][1], part->s[0][B] = record->s[B][0];
    part->p[OUT] = (REAL *)part->p[OUT] + lo, part->p[A] = (REAL *)part->p[A] + lo;
    if (part->p[C]) part->p[C] = (REAL *)part->p[C] + lo;
    part->run = count > 0 && record->n[2] > 0 ? NAME(vector) : NAME(matmul);
}

/* Pack a loop-invariant matrix into contiguous, aligned memory before the loop, if that pays and there is room:
     - in panels for tiles, a large matrix that multiplies more than a few rows;
     - the columns that a worker reads, if these are not all: rows that lie far apart use few sets of the cache;
     - a matrix whose rows are not aligned to cache lines, if it multiplies so few rows that the time is that of reading
       it.
   Returns the end of the packed matrix; `to` if it is not packed. */
static char *NAME(pack)(Part *part, Size steps, char *to, const char *end) {
    enum { LINE_REALS = 64 / sizeof(REAL), STEPS = 8, STAYS = 2 };
    const Record *record = part->record;
    bool is_vector = part->run == NAME(vector), is_matrix = part->run == NAME(matmul);
    int operand = is_vector ? A : B;
    if ((!is_vector && !is_matrix) || record->n[3] != STAYS || steps < STEPS) return to;
    Size N = is_vector ? part->n[0] : record->split == 2 ? part->hi - part->lo : record->n[1], K = record->n[2];
    Size from = part->s[0][operand], width = is_vector ? N : (N + LINE_REALS - 1) / LINE_REALS * LINE_REALS;
    Size bytes = (width * K * (Size)sizeof(REAL) + 63) / 64 * 64;
    if (end - to < bytes || (is_matrix && (record->s[B][1] != 1 || N < LINE_REALS))) return to;
    if (is_matrix && GEMM_BLOCK && record->n[0] > 2 * GEMM_ROWS && NAME(is_large)(N, K)) {
        const REAL *b = (REAL *)part->p[B] + (record->split == 2 ? part->lo : 0);
        NAME(gemm_pack_all)(N, K, b, from, 1, (REAL *)to);
        part->p[B] = to, part->n[1] = GEMM_PACKED;
        return to + bytes;
    }
    bool is_read = record->split != 2 && part->hi - part->lo < 2 * GEMM_ROWS && from % LINE_REALS;
    if (from == width || (is_matrix && !is_read)) return to;
    for (Size k = 0; k < K; k++)
        memcpy((REAL *)to + k * width, (REAL *)part->p[operand] + k * from, N * sizeof(REAL));
    part->p[operand] = to, part->s[0][operand] = width;
    return to + bytes;
}

/* -- sums of a (n[0], n[1]), times x[A] ---------------------------------------------------------------------------- */

/* columns first to last of out = factor * the sum of so many rows */
static void NAME(add_rows)(const REAL *a, Size step, Size rows, REAL *out, Size first, Size last, REAL factor) {
    enum { WIDE = 8 * LANES };
    for (Size j = first; j < last; j += WIDE) {
        Size width = last - j < WIDE ? last - j : WIDE;
        REAL total[WIDE] = {0};
        for (Size i = 0; i < rows; i++) {
            const REAL *row = a + i * step + j;
            if (width == WIDE)
                for (int k = 0; k < WIDE; k++) total[k] += row[k];
            else
                for (Size k = 0; k < width; k++) total[k] += row[k];
        }
        for (Size k = 0; k < width; k++) out[j + k] = total[k] * factor;
    }
}

/* over the rows: out (n[1]) = x[A] * a.sum(axis 0) */
static void NAME(sum_rows)(Part *part) {
    const Record *record = part->record;
    NAME(add_rows)(part->p[A], record->s[A][0], record->n[0], part->p[OUT], part->lo, part->hi, (REAL)record->x[A]);
}

/* over the axis in the middle: out (n[0], n[1]) = x[A] * a (n[0], n[2], n[1]).sum(axis 1) */
static void NAME(sum_middle)(Part *part) {
    const Record *record = part->record;
    for (Size i = part->lo; i < part->hi; i++) {
        const REAL *a = (const REAL *)part->p[A] + i * record->s[A][0];
        REAL *out = (REAL *)part->p[OUT] + i * record->s[OUT][0];
        NAME(add_rows)(a, record->s[A][1], record->n[2], out, 0, record->n[1], (REAL)record->x[A]);
    }
}

/* along each row: out (n[0]) = x[A] * a.sum(axis 1); by pieces, whose sums are added in double precision */
static void NAME(sum_along)(Part *part) {
    const Record *record = part->record;
    enum { PIECE = 1024 };
    for (Size i = part->lo; i < part->hi; i++) {
        const REAL *row = (const REAL *)part->p[A] + i * record->s[A][0];
        double total = 0;
        for (Size j = 0; j < record->n[1]; j += PIECE) {
            Size end = j + PIECE < record->n[1] ? j + PIECE : record->n[1];
            REAL piece = 0;
#pragma omp simd reduction(+ : piece)
            for (Size k = j; k < end; k++) piece += row[k];
            total += (double)piece;
        }
        ((REAL *)part->p[OUT])[i * record->s[OUT][0]] = (REAL)(total * record->x[A]);
    }
}

/* out (n[0], n[1]) = a (n[0], n[1]), of another type; a whole number is what comes before the point */
#define CONVERT(name, TO, FROM)                                                                                      \
    static void NAME(name)(Part *part) {                                                                             \
        const Record *record = part->record;                                                                         \
        Size n = record->n[1], to = record->s[OUT][1], from = record->s[A][1];                                       \
        for (Size i = part->lo; i < part->hi; i++) {                                                                 \
            TO *out = (TO *)part->p[OUT] + i * record->s[OUT][0];                                                    \
            const FROM *a = (FROM *)part->p[A] + i * record->s[A][0];                                                \
            if (to == 1 && from == 1)                                                                                \
                for (Size j = 0; j < n; j++) out[j] = (TO)a[j];                                                      \
            else                                                                                                     \
                for (Size j = 0; j < n; j++) out[j * to] = (TO)a[j * from];                                          \
        }                                                                                                            \
    }

CONVERT(convert, REAL, OTHER)
CONVERT(from_whole, REAL, int64_t)
CONVERT(to_whole, int64_t, REAL)
#undef CONVERT

#include "lookups.h"
#include "loss.h"

/* -- one record --------------------------------------------------------------------------------------------------- */

#define ENTRY(name) NAME(name),
static Run *const NAME(operations)[] = {OPERATIONS(ENTRY)};
#undef ENTRY

static void NAME(prepare)(Part *part) {
    int op = part->record->op;
    if (op <= OP_where)
        NAME(prepare_elementwise)(part);
    else if (op == OP_matmul && part->record->split == 3)
        NAME(prepare_vector)(part);
    else
        part->run = NAME(operations)[op - OP_where - 1], part->s[0][B] = part->record->s[B][0],
        part->n[1] = GEMM_IN_PLACE;
}
