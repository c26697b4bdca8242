/* Matrix product of one worker: c (M, N) = a (M, K) @ b (K, N). Included once for each REAL. */

#if LANES == 16
#define INTERLEAVE_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define INTERLEAVE_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
typedef int32_t NAME(gemm_bits) __attribute__((vector_size(64)));
#else
#define INTERLEAVE_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define INTERLEAVE_HIGH 4, 12, 5, 13, 6, 14, 7, 15
typedef int64_t NAME(gemm_bits) __attribute__((vector_size(64)));
#endif

typedef REAL NAME(gemm_vec) __attribute__((vector_size(64), aligned(sizeof(REAL)), may_alias));

#ifndef GEMM_SCRATCH
#define GEMM_SCRATCH (1L << 20)
enum { GEMM_ROWS = 6, GEMM_VECTORS = 4, GEMM_DEPTH = 512 };
#define GEMM_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define GEMM_UNROLL _Pragma("unroll")
#define GEMM_SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define GEMM_UNROLL _Pragma("GCC unroll 16")
#define GEMM_SHUFFLE(x, y, ...) __builtin_shuffle(x, y, (NAME(gemm_bits)){__VA_ARGS__})
#endif
static inline long gemm_min(long x, long y) { return x < y ? x : y; }
#endif

/* Tile of `rows` rows and `vectors` vectors of columns; all sums stay in registers. `add` adds to what c holds. The
   last vector starts at column `last`: it may overlap the one before, whose numbers are then written twice. */
GEMM_INLINE void NAME(gemm_tile)(int rows, int vectors, long last, long K, const REAL *a, long am, long ak,
                                 const REAL *b, long bk, REAL *c, long cm, int add) {
#define COLUMN(j) (j < vectors - 1 ? j * LANES : last)
    NAME(gemm_vec) sum[GEMM_ROWS][8], x[8];
    GEMM_UNROLL for (int i = 0; i < rows; i++)
        GEMM_UNROLL for (int j = 0; j < vectors; j++)
            sum[i][j] = add ? *(const NAME(gemm_vec) *)(c + i * cm + COLUMN(j)) : (NAME(gemm_vec)){0};
    for (long k = 0; k < K; k++) {
        GEMM_UNROLL for (int j = 0; j < vectors; j++) x[j] = *(const NAME(gemm_vec) *)(b + k * bk + COLUMN(j));
        GEMM_UNROLL for (int i = 0; i < rows; i++) {
            NAME(gemm_vec) y = a[i * am + k * ak] - (NAME(gemm_vec)){0};
            GEMM_UNROLL for (int j = 0; j < vectors; j++) sum[i][j] += y * x[j];
        }
    }
    GEMM_UNROLL for (int i = 0; i < rows; i++)
        GEMM_UNROLL for (int j = 0; j < vectors; j++) *(NAME(gemm_vec) *)(c + i * cm + COLUMN(j)) = sum[i][j];
#undef COLUMN
}

#define GEMM_CASE(R, V) case 8 * R + V: NAME(gemm_tile)(R, V, last, K, a, am, ak, b, bk, c, cm, add); return;
#define GEMM_CASES(V) GEMM_CASE(1, V) GEMM_CASE(2, V) GEMM_CASE(3, V) GEMM_CASE(4, V) GEMM_CASE(5, V) GEMM_CASE(6, V)
static void NAME(gemm_any_tile)(long rows, long vectors, long last, long K, const REAL *a, long am, long ak, const REAL *b,
                                long bk, REAL *c, long cm, int add) {
    switch (8 * rows + vectors) { GEMM_CASES(1) GEMM_CASES(2) GEMM_CASES(3) GEMM_CASES(4) }
}

/* All M rows of one column panel, in tiles of nearly equal heights. */
static void NAME(gemm_panel)(long M, long vectors, long last, long K, const REAL *a, long am, long ak, const REAL *b, long bk,
                             REAL *c, long cm, int add) {
    for (long m = 0, tiles = (M + GEMM_ROWS - 1) / GEMM_ROWS; tiles > 0; tiles--) {
        long rows = (M - m + tiles - 1) / tiles;
        NAME(gemm_any_tile)(rows, vectors, last, K, a + m * am, am, ak, b, bk, c + m * cm, cm, add);
        m += rows;
    }
}

/* b row-major, N >= LANES, read in place. The last panel overlaps the one before: it writes the same numbers again. */
static void NAME(gemm_in_place)(long M, long N, long K, const REAL *a, long am, long ak, const REAL *b, long bk,
                                REAL *c, long cm) {
    long vectors = (N + LANES - 1) / LANES;
    for (long n = 0, panels = (vectors + GEMM_VECTORS - 1) / GEMM_VECTORS; panels > 0; panels--) {
        long width = (vectors + panels - 1) / panels;
        NAME(gemm_panel)(M, width, gemm_min((width - 1) * LANES, N - n - LANES), K, a, am, ak, b + n, bk, c + n, cm, 0);
        n += width * LANES, vectors -= width;
    }
}

/* Any strides: copies panels of b, padded with zeros. */
static void NAME(gemm_packed)(long M, long N, long K, const REAL *a, long am, long ak, const REAL *b, long bk, long bn,
                              REAL *c, long cm, REAL *scratch) {
    enum { WIDTH = GEMM_VECTORS * LANES };
    REAL edge[GEMM_ROWS * WIDTH];
    for (long n = 0; n < N; n += WIDTH)
        for (long k = 0; k < K; k += GEMM_DEPTH) {
            long depth = gemm_min(GEMM_DEPTH, K - k), columns = gemm_min(WIDTH, N - n);
            for (long p = 0; p < depth; p++)
                for (long j = 0; j < WIDTH; j++)
                    scratch[p * WIDTH + j] = j < columns ? b[(k + p) * bk + (n + j) * bn] : 0;
            if (columns == WIDTH) {
                NAME(gemm_panel)(M, GEMM_VECTORS, WIDTH - LANES, depth, a + k * ak, am, ak, scratch, WIDTH, c + n, cm, k > 0);
                continue;
            }
            for (long m = 0; m < M; m += GEMM_ROWS) {
                long rows = gemm_min(GEMM_ROWS, M - m);
                NAME(gemm_panel)(rows, GEMM_VECTORS, WIDTH - LANES, depth, a + m * am + k * ak, am, ak, scratch, WIDTH, edge, WIDTH, 0);
                for (long i = 0; i < rows; i++)
                    for (long j = 0; j < columns; j++) {
                        REAL *out = c + (m + i) * cm + n + j;
                        *out = edge[i * WIDTH + j] + (k > 0 ? *out : 0);
                    }
            }
        }
}

static void NAME(gemm)(long M, long N, long K, const REAL *a, long am, long ak, const REAL *b, long bk, long bn,
                       REAL *c, long cm, REAL *scratch) {
    if (K <= 0)
        for (long m = 0; m < M; m++) memset(c + m * cm, 0, N * sizeof(REAL));
    else if (bn == 1 && N >= LANES)
        NAME(gemm_in_place)(M, N, K, a, am, ak, b, bk, c, cm);
    else
        NAME(gemm_packed)(M, N, K, a, am, ak, b, bk, bn, c, cm, scratch);
}

#undef INTERLEAVE_LOW
#undef INTERLEAVE_HIGH
#undef GEMM_CASE
#undef GEMM_CASES
