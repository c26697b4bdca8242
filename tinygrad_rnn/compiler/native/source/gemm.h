/* The matrix product of one worker, for the type that real.h has set: c (M, N) = a (M, K) @ b (K, N), each with its
   steps: a[m * am + k * ak], b[k * bk + n * bn], c[m * cm + n]. Two loops do the work:
     tile:  b row-major. A tile of c stays in registers, k runs outermost. Other b's are copied to that order, a panel at a time.
     dots:  a and b contiguous along K, and few rows, which a copy of b would not pay for. LANES numbers of k at a time. */

#if LANES == 16
#define GEMM_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define GEMM_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
typedef int32_t NAME(Bits) __attribute__((vector_size(64)));
#else
#define GEMM_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define GEMM_HIGH 4, 12, 5, 13, 6, 14, 7, 15
typedef int64_t NAME(Bits) __attribute__((vector_size(64)));
#endif
/* As they lie in memory: at any address, as any type. */
typedef REAL NAME(Vector) __attribute__((vector_size(64), aligned(sizeof(REAL)), may_alias));
typedef REAL NAME(Four) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

#ifndef GEMM_SCRATCH
/* The most vectors of sums that the registers hold: tiles of ROWS x VECTORS, of 1 x WIDE, dots of DOT_ROWS x 4. */
#ifdef __AVX512F__
enum { GEMM_ROWS = 6, GEMM_VECTORS = 4, GEMM_WIDE = 8, GEMM_DOT_ROWS = 6 };
#else
enum { GEMM_ROWS = 6, GEMM_VECTORS = 1, GEMM_WIDE = 4, GEMM_DOT_ROWS = 1 };
#endif
/* So much of K at a time that what is read again is still in the second cache; rows from which copies of b pay. */
enum { GEMM_DEPTH = 704, GEMM_DOT_DEPTH = 1024, GEMM_MANY = 41 };
#define GEMM_SCRATCH (GEMM_DEPTH * GEMM_WIDE * 64L)
#define GEMM_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define GEMM_UNROLL _Pragma("unroll")
#define GEMM_SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define GEMM_UNROLL _Pragma("GCC unroll 16")
#define GEMM_SHUFFLE(x, y, ...) __builtin_shuffle(x, y, (NAME(Bits)){__VA_ARGS__})
#endif
/* Folds two vectors of partial sums into one, whose even lanes belong to x, and whose odd lanes to y. */
#define GEMM_FOLD(x, y) (GEMM_SHUFFLE(x, y, GEMM_LOW) + GEMM_SHUFFLE(x, y, GEMM_HIGH))
/* Holds x in its register: gcc would read it from memory again for each use. */
#ifdef __AVX512F__
#define GEMM_HOLD(x) __asm__("" : "+v"(x))
#else
#define GEMM_HOLD(x)
#endif
#define GEMM_READ(p) (*(const NAME(Vector) *)(p))
#define GEMM_AT(p) (*(NAME(Vector) *)(p))
GEMM_INLINE long gemm_least(long x, long y) { return x < y ? x : y; }
GEMM_INLINE long gemm_parts(long n, long most) { return (n + most - 1) / most; }
#endif

/* -- tiles -------------------------------------------------------------------------------------------------------- */

/* The last vector starts at column `last`: it may overlap the one before, whose numbers are then written twice. */
GEMM_INLINE void NAME(gemm_tile)(int rows, int vectors, long last, long K, const REAL *a, long am, long ak,
                                 const REAL *b, long bk, REAL *c, long cm, int add) {
#define COLUMN(j) (j < vectors - 1 ? j * LANES : last)
    NAME(Vector) sum[GEMM_ROWS][GEMM_WIDE], y[GEMM_WIDE];
    GEMM_UNROLL for (int i = 0; i < rows; i++)
        GEMM_UNROLL for (int j = 0; j < vectors; j++)
            sum[i][j] = add ? GEMM_READ(c + i * cm + COLUMN(j)) : (NAME(Vector)){0};
    for (long k = 0; k < K; k++) {
        GEMM_UNROLL for (int j = 0; j < vectors; j++) y[j] = GEMM_READ(b + k * bk + COLUMN(j));
        GEMM_UNROLL for (int i = 0; i < rows; i++) {
            NAME(Vector) x = a[i * am + k * ak] - (NAME(Vector)){0};
            GEMM_UNROLL for (int j = 0; j < vectors; j++) sum[i][j] += x * y[j];
        }
    }
    GEMM_UNROLL for (int i = 0; i < rows; i++)
        GEMM_UNROLL for (int j = 0; j < vectors; j++) GEMM_AT(c + i * cm + COLUMN(j)) = sum[i][j];
#undef COLUMN
}

/* All rows of one panel of columns, in tiles of nearly the same height. */
static void NAME(gemm_panel)(long M, long vectors, long last, long K, const REAL *a, long am, long ak, const REAL *b,
                             long bk, REAL *c, long cm, int add) {
#define TILE(R, V) case 16 * R + V: NAME(gemm_tile)(R, V, last, K, a, am, ak, b, bk, c, cm, add); break;
#define TILES(V) TILE(1, V) TILE(2, V) TILE(3, V) TILE(4, V) TILE(5, V) TILE(6, V)
    for (long tiles = gemm_parts(M, GEMM_ROWS); tiles > 0; tiles--) {
        long rows = M / tiles;
        switch (16 * rows + vectors) {
            TILES(1)
#ifdef __AVX512F__
            TILES(2) TILES(3) TILES(4) TILE(1, 5) TILE(1, 6) TILE(1, 7) TILE(1, 8)
#else
            TILE(1, 2) TILE(1, 3) TILE(1, 4)
#endif
        }
        a += rows * am, c += rows * cm, M -= rows;
    }
#undef TILES
#undef TILE
}

/* out (LANES, LANES), with rows `width` apart, = the transpose of b, whose rows are bn apart. */
static void NAME(gemm_turn)(const REAL *b, long bn, REAL *out, long width) {
    NAME(Vector) x[LANES], y[LANES];
    GEMM_UNROLL for (int j = 0; j < LANES; j++) x[j] = GEMM_READ(b + j * bn);
    GEMM_UNROLL for (int bit = 1; bit < LANES; bit *= 2) {
        GEMM_UNROLL for (int j = 0; j < LANES / 2; j++) {
            y[2 * j] = GEMM_SHUFFLE(x[j], x[j + LANES / 2], GEMM_LOW);
            y[2 * j + 1] = GEMM_SHUFFLE(x[j], x[j + LANES / 2], GEMM_HIGH);
        }
        GEMM_UNROLL for (int j = 0; j < LANES; j++) x[j] = y[j];
    }
    GEMM_UNROLL for (int j = 0; j < LANES; j++) GEMM_AT(out + j * width) = x[j];
}

/* out (depth, width) = a panel of b with `columns` columns; zeros behind them if there are less than LANES. */
static void NAME(gemm_copy)(long depth, long columns, const REAL *b, long bk, long bn, REAL *out, long width) {
    if (bk == 1 && columns >= LANES && depth >= LANES) {
        for (long at = 0; at < columns; at += LANES)
            for (long k = 0; k < depth; k += LANES) {
                long row = gemm_least(k, depth - LANES), n = gemm_least(at, columns - LANES);
                NAME(gemm_turn)(b + row + n * bn, bn, out + row * width + n, width);
            }
        return;
    }
    for (long k = 0; k < depth; k++) {
        for (long n = 0; n < columns; n++) out[k * width + n] = b[k * bk + n * bn];
        for (long n = columns; n < LANES; n++) out[k * width + n] = 0;
    }
}

/* Panels of columns, K in parts. Without `copy` b is row-major and read where it lies. */
static void NAME(gemm_panels)(int copy, long M, long N, long K, const REAL *a, long am, long ak, const REAL *b, long bk,
                              long bn, REAL *c, long cm, REAL *scratch) {
    long most = M == 1 ? GEMM_WIDE : GEMM_VECTORS, depth;
    REAL sums[GEMM_ROWS * LANES];
    for (long k = 0, parts = gemm_parts(K, GEMM_DEPTH); parts > 0; parts--, k += depth) {
        depth = (K - k) / parts;
        long vectors = gemm_parts(N, LANES), width, columns;
        for (long n = 0, panels = gemm_parts(vectors, most); panels > 0; panels--, n += columns) {
            width = vectors / panels, columns = gemm_least(width * LANES, N - n), vectors -= width;
            const REAL *panel = b + k * bk + n * bn;
            long step = bk;
            if (copy || columns < LANES) {
                NAME(gemm_copy)(depth, columns, panel, bk, bn, scratch, width * LANES);
                panel = scratch, step = width * LANES;
            }
            if (columns >= LANES) {
                NAME(gemm_panel)(M, width, columns - LANES, depth, a + k * ak, am, ak, panel, step, c + n, cm, k > 0);
                continue;
            }
            for (long m = 0; m < M; m += GEMM_ROWS) {
                long rows = gemm_least(GEMM_ROWS, M - m);
                NAME(gemm_panel)(rows, 1, 0, depth, a + m * am + k * ak, am, ak, panel, step, sums, LANES, 0);
                for (long i = 0; i < rows; i++)
                    for (long j = 0; j < columns; j++) {
                        REAL *out = c + (m + i) * cm + n + j;
                        *out = k > 0 ? *out + sums[i * LANES + j] : sums[i * LANES + j];
                    }
            }
        }
    }
}

/* -- dots --------------------------------------------------------------------------------------------------------- */

/* rows x 4 dot products, K >= LANES; c[i * cm + j * cn]. */
GEMM_INLINE void NAME(gemm_dots)(int rows, long K, const REAL *a, long am, const REAL *b, long bn, REAL *c, long cm,
                                 long cn, int add) {
    NAME(Vector) sum[GEMM_DOT_ROWS][4], y[4], x;
    GEMM_UNROLL for (int i = 0; i < rows; i++)
        GEMM_UNROLL for (int j = 0; j < 4; j++) sum[i][j] = (NAME(Vector)){0};
    long k = 0;
    for (; k <= K - LANES; k += LANES) {
        GEMM_UNROLL for (int j = 0; j < 4; j++) y[j] = GEMM_READ(b + j * bn + k);
        GEMM_UNROLL for (int i = 0; i < rows; i++) {
            x = GEMM_READ(a + i * am + k);
            GEMM_HOLD(x);
            GEMM_UNROLL for (int j = 0; j < 4; j++) sum[i][j] += x * y[j];
        }
    }
    if (k < K) { /* the last LANES numbers, without those that the loop has had */
        NAME(Bits) left;
        for (int l = 0; l < LANES; l++) left[l] = -(l >= k + LANES - K);
        k = K - LANES;
        GEMM_UNROLL for (int j = 0; j < 4; j++) y[j] = (NAME(Vector))((NAME(Bits))GEMM_READ(b + j * bn + k) & left);
        GEMM_UNROLL for (int i = 0; i < rows; i++) {
            x = (NAME(Vector))((NAME(Bits))GEMM_READ(a + i * am + k) & left);
            GEMM_UNROLL for (int j = 0; j < 4; j++) sum[i][j] += x * y[j];
        }
    }
    GEMM_UNROLL for (int i = 0; i < rows; i++) {
        x = GEMM_FOLD(GEMM_FOLD(sum[i][0], sum[i][2]), GEMM_FOLD(sum[i][1], sum[i][3])); /* lane 4 p + j: sum j */
        const NAME(Four) *part = (const NAME(Four) *)&x;
        NAME(Four) total = part[0] + part[1];
        if (LANES == 16) total += part[2] + part[LANES / 4 - 1];
        REAL *out = c + i * cm;
        for (int j = 0; j < 4 && add; j++) total[j] += out[j * cn];
        if (cn == 1)
            *(NAME(Four) *)out = total;
        else
            for (int j = 0; j < 4; j++) out[j * cn] = total[j];
    }
}

static REAL NAME(gemm_dot)(long K, const REAL *a, const REAL *b) {
    NAME(Vector) sum[8] = {0};
    REAL total = 0;
    long k = 0;
    for (; k <= K - 8 * LANES; k += 8 * LANES)
        GEMM_UNROLL for (int j = 0; j < 8; j++) sum[j] += GEMM_READ(a + k + j * LANES) * GEMM_READ(b + k + j * LANES);
    for (; k <= K - LANES; k += LANES) sum[0] += GEMM_READ(a + k) * GEMM_READ(b + k);
    for (int j = 1; j < 8; j++) sum[0] += sum[j];
    for (int l = 0; l < LANES; l++) total += sum[0][l];
    for (; k < K; k++) total += a[k] * b[k];
    return total;
}

/* a and b contiguous along K. Four columns at a time; the last four may overlap those before. */
static void NAME(gemm_along)(long M, long N, long K, const REAL *a, long am, const REAL *b, long bn, REAL *c, long cm,
                             long cn) {
    if (N < 4 && M >= 4 && K >= LANES) {
        NAME(gemm_along)(N, M, K, b, bn, a, am, c, cn, cm);
        return;
    }
    if (N < 4 || K < LANES) {
        for (long m = 0; m < M; m++)
            for (long n = 0; n < N; n++) c[m * cm + n * cn] = NAME(gemm_dot)(K, a + m * am, b + n * bn);
        return;
    }
#define DOTS(R) case R: NAME(gemm_dots)(R, depth, x, am, y, bn, out, cm, cn, k > 0); break;
    for (long at = 0; at < N; at += 4) {
        long n = gemm_least(at, N - 4), depth;
        for (long k = 0, parts = gemm_parts(K, GEMM_DOT_DEPTH); parts > 0; parts--, k += depth) {
            depth = parts == 1 ? K - k : (K - k) / parts / LANES * LANES;
            const REAL *x = a + k, *y = b + n * bn + k;
            REAL *out = c + n * cn;
            for (long left = M, rows, tiles = gemm_parts(M, GEMM_DOT_ROWS); tiles > 0; tiles--) {
                rows = left / tiles;
                switch (rows) {
                    DOTS(1)
#ifdef __AVX512F__
                    DOTS(2) DOTS(3) DOTS(4) DOTS(5) DOTS(6)
#endif
                }
                left -= rows, x += rows * am, out += rows * cm;
            }
        }
    }
#undef DOTS
}

/* -- which --------------------------------------------------------------------------------------------------------- */

static void NAME(gemm)(long M, long N, long K, const REAL *a, long am, long ak, const REAL *b, long bk, long bn,
                       REAL *c, long cm, REAL *scratch) {
    if (K <= 0) {
        for (long m = 0; m < M; m++) memset(c + m * cm, 0, N * sizeof(REAL));
    } else if (bn == 1 && N >= LANES) {
        NAME(gemm_panels)(0, M, N, K, a, am, ak, b, bk, bn, c, cm, scratch);
    } else if (ak == 1 && bk == 1 && (M < GEMM_MANY || N < LANES)) {
        NAME(gemm_along)(M, N, K, a, am, b, bn, c, cm, 1);
    } else if (N == 1 && cm == 1 && am == 1 && M >= LANES) { /* the transpose of vector @ matrix */
        NAME(gemm_panels)(0, 1, M, K, b, 0, bk, a, ak, 1, c, M, scratch);
    } else {
        NAME(gemm_panels)(1, M, N, K, a, am, ak, b, bk, bn, c, cm, scratch);
    }
}

#undef GEMM_LOW
#undef GEMM_HIGH
