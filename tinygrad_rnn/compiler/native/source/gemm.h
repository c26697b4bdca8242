/* The matrix product of one worker, for the type that real.h has set: c (M, N) = a (M, K) @ b (K, N), with strides in
   elements: a[m * am + k * ak], b[k * bk + n * bn], c[m * cm + n], and an epilogue that adds `more` to c.
   There are two microkernels:
     tiles: b is row-major. A tile of c stays in registers while k runs. Every other b is first packed into panels.
     dots:  a and b are contiguous along K, with so few rows that packing b would not pay. Vectors run along K: see
            dots.h. */

#ifndef GEMM_SCRATCH
/* Blocking by the number of vector registers: tiles of ROWS x VECTORS vectors, or 1 x WIDE, and dots of DOT_ROWS x 4.
   FEW: up to so many rows dots are faster than tiles. AHEAD: the prefetch distance in rows of b; 0: with 16 registers
   prefetching does not pay. BLOCK: bytes of a block of packed rows of a, which stays in the L2 cache while all panels
   of b go by; 0: a is always read in place.
   GEMM_PACKS: whether to pack a row-major b too: its rows in a panel fill parts of cache lines, and if they lie far
   apart few of these stay in the L1 cache. */
#ifdef __AVX512F__
enum { GEMM_ROWS = 6, GEMM_VECTORS = 4, GEMM_WIDE = 8, GEMM_DOT_ROWS = 6, GEMM_FEW = 40, GEMM_AHEAD = 12 };
enum { GEMM_BLOCK = 0 };
#define GEMM_BYTES 64
#define GEMM_HOLD(x) __asm__("" : "+v"(x)) /* keep x in its register; gcc would load it again for each use */
#define GEMM_PACKS(M, N, K, bk) 0
#elif defined(__wasm__)
/* A vector here is two of WebAssembly's, of which the CPU may have no more than 16 registers. */
enum { GEMM_ROWS = 4, GEMM_VECTORS = 1, GEMM_WIDE = 5, GEMM_DOT_ROWS = 1, GEMM_FEW = 4, GEMM_AHEAD = 0 };
enum { GEMM_BLOCK = 0 };
#define GEMM_BYTES 32
#define GEMM_HOLD(x)
#define GEMM_PACKS(M, N, K, bk) ((M) > ((bk) < 256 ? 64 : 2 * GEMM_ROWS))
#define GEMM_NOINLINE __attribute__((noinline)) /* engines allocate registers best in small functions */
#else
enum { GEMM_ROWS = 6, GEMM_VECTORS = 2, GEMM_WIDE = 8, GEMM_DOT_ROWS = 2, GEMM_FEW = 16, GEMM_AHEAD = 0 };
enum { GEMM_BLOCK = 384 << 10 };
#define GEMM_BYTES 32
#define GEMM_HOLD(x)
#define GEMM_PACKS(M, N, K, bk) ((M) > 4 * GEMM_ROWS && (M) * (N) * (K) > 1 << 22)
#endif
/* Blocks of K: what is read again is still in the L2 cache. */
enum { GEMM_DEPTH = 704, GEMM_DOT_DEPTH = 1024 };
/* How b is read in tiles; GEMM_PACKED: it has been packed by gemm_pack_all. */
enum { GEMM_IN_PLACE, GEMM_PACK, GEMM_PACKED };
enum { GEMM_MANY = 256 }; /* columns from which on packing rows of a pays */
enum { GEMM_TALL = 48 }; /* rows that are multiplied by all of b at a time, if there are more and b fits in GEMM_BLOCK */
enum { GEMM_CACHE = 24 << 10 }; /* bytes that certainly fit in the L1 cache */
enum { GEMM_PAGE = 4096, GEMM_STREAMS = 8 }; /* bytes of a page of memory; rows that are read at a time */
#ifndef GEMM_NOINLINE
#define GEMM_NOINLINE
#endif
#define GEMM_PANEL ((size_t)GEMM_DEPTH * GEMM_WIDE * GEMM_BYTES)
#define GEMM_SCRATCH (GEMM_PANEL + GEMM_BLOCK)
#define GEMM_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define GEMM_UNROLL _Pragma("unroll")
#define GEMM_SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define GEMM_UNROLL _Pragma("GCC unroll 16")
#define GEMM_SHUFFLE(x, y, ...) __builtin_shuffle(x, y, (NAME(Bits)){__VA_ARGS__})
#endif
/* Fold two vectors of partial sums into one: even lanes are sums of x, odd lanes of y. */
#define GEMM_FOLD(x, y) (GEMM_SHUFFLE(x, y, GEMM_LOW) + GEMM_SHUFFLE(x, y, GEMM_HIGH))
#define GEMM_READ(p) (*(const NAME(Vector) *)(p))
#define GEMM_AT(p) (*(NAME(Vector) *)(p))
GEMM_INLINE Size gemm_least(Size x, Size y) { return x < y ? x : y; }
GEMM_INLINE Size gemm_parts(Size n, Size most) { return (n + most - 1) / most; }
#endif

#undef GEMM_LANES
#undef GEMM_LOW
#undef GEMM_HIGH
#define GEMM_LANES (LANES * GEMM_BYTES / 64)
#if GEMM_LANES == 16
#define GEMM_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define GEMM_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif GEMM_LANES == 8
#define GEMM_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define GEMM_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define GEMM_LOW 0, 4, 1, 5
#define GEMM_HIGH 2, 6, 3, 7
#endif
typedef BITS NAME(Bits) __attribute__((vector_size(GEMM_BYTES)));
/* Vectors in memory, aligned as a REAL. */
typedef REAL NAME(Vector) __attribute__((vector_size(GEMM_BYTES), aligned(sizeof(REAL)), may_alias));
typedef REAL NAME(Four) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

/* -- tiles -------------------------------------------------------------------------------------------------------- */

/* A tile: rows x vectors. The last vector starts at column `last`: it may overlap the one before, whose numbers are
   then written twice. `add`: add to c, the sum over the blocks of K before. `more`, unless NULL, is added last. */
GEMM_INLINE void NAME(gemm_tile)(int rows, int vectors, Size last, Size K, const REAL *a, Size am, Size ak,
                                 const REAL *b, Size bk, REAL *c, Size cm, int add, const REAL *more, Size mm) {
#define COLUMN(j) (j < vectors - 1 ? j * GEMM_LANES : last)
    NAME(Vector) sum[GEMM_ROWS][GEMM_WIDE], y[GEMM_WIDE];
    GEMM_UNROLL for (int i = 0; i < rows; i++)
        GEMM_UNROLL for (int j = 0; j < vectors; j++)
            sum[i][j] = add ? GEMM_READ(c + i * cm + COLUMN(j)) : (NAME(Vector)){0};
    if (more)
        GEMM_UNROLL for (int i = 0; i < rows; i++)
            GEMM_UNROLL for (int j = 0; j < vectors; j++) __builtin_prefetch(more + i * mm + COLUMN(j));
    for (Size k = 0; k < K; k++) {
        if (GEMM_AHEAD && rows > 4) /* bound by arithmetic, with rows far apart */
            GEMM_UNROLL for (int j = 0; j < vectors; j++) __builtin_prefetch(b + (k + GEMM_AHEAD) * bk + COLUMN(j));
        GEMM_UNROLL for (int j = 0; j < vectors; j++) y[j] = GEMM_READ(b + k * bk + COLUMN(j));
        GEMM_UNROLL for (int i = 0; i < rows; i++) {
            NAME(Vector) x = a[i * am + k * ak] - (NAME(Vector)){0};
            GEMM_UNROLL for (int j = 0; j < vectors; j++) sum[i][j] += x * y[j];
        }
    }
    if (more)
        GEMM_UNROLL for (int i = 0; i < rows; i++)
            GEMM_UNROLL for (int j = 0; j < vectors; j++) sum[i][j] += GEMM_READ(more + i * mm + COLUMN(j));
    GEMM_UNROLL for (int i = 0; i < rows; i++)
        GEMM_UNROLL for (int j = 0; j < vectors; j++) GEMM_AT(c + i * cm + COLUMN(j)) = sum[i][j];
#undef COLUMN
}

#define TILE(R, V)                                                                                                   \
    static GEMM_NOINLINE void NAME(gemm_tile_##R##_##V)(Size last, Size K, const REAL *a, Size am, Size ak,          \
                                                        const REAL *b, Size bk, REAL *c, Size cm, int add,           \
                                                        const REAL *more, Size mm) {                                 \
        NAME(gemm_tile)(R, V, last, K, a, am, ak, b, bk, c, cm, add, more, mm);                                      \
    }
#define TILES(V) TILE(1, V) TILE(2, V) TILE(3, V) TILE(4, V) TILE(5, V) TILE(6, V)
#ifdef __AVX512F__
#define ALL_TILES TILES(1) TILES(2) TILES(3) TILES(4) TILE(1, 5) TILE(1, 6) TILE(1, 7) TILE(1, 8)
#else
#define ALL_TILES TILES(1) TILES(2) TILE(1, 3) TILE(1, 4) TILE(1, 5) TILE(1, 6) TILE(1, 7) TILE(1, 8)
#endif
ALL_TILES
#undef TILE

static void NAME(gemm_any_tile)(Size rows, Size vectors, Size last, Size K, const REAL *a, Size am, Size ak,
                                const REAL *b, Size bk, REAL *c, Size cm, int add, const REAL *more, Size mm) {
#define TILE(R, V) case 16 * R + V: NAME(gemm_tile_##R##_##V)(last, K, a, am, ak, b, bk, c, cm, add, more, mm); return;
    switch (16 * rows + vectors) { ALL_TILES }
#undef TILE
#undef TILES
#undef ALL_TILES
}

/* All rows of a panel of columns, in tiles of nearly equal height. `packed`: the rows of a are packed by tiles. `next`,
   unless NULL: a cache line of each of the M rows of a after these, which is fetched meanwhile, as are those of c. */
static void NAME(gemm_panel)(int packed, Size M, Size vectors, Size last, Size K, const REAL *a, Size am, Size ak,
                             const REAL *b, Size bk, REAL *c, Size cm, int add, const REAL *more, Size mm,
                             const REAL *next) {
    const REAL *after = c + M * cm;
    for (Size tiles = gemm_parts(M, GEMM_ROWS); tiles > 0; tiles--) {
        Size rows = gemm_parts(M, tiles);
        if (packed) am = 1, ak = rows;
        for (Size i = 0; next && i < rows; i++, next += am, after += cm) {
            __builtin_prefetch(next, 0, 2);
            __builtin_prefetch(after, 1, 2);
        }
        NAME(gemm_any_tile)(rows, vectors, last, K, a, am, ak, b, bk, c, cm, add, more, mm);
        a += rows * (packed ? K : am), c += rows * cm, M -= rows, more = more ? more + rows * mm : NULL;
    }
}

/* Pack rows of a: of each tile (K, rows), row-major. */
static void NAME(gemm_pack_rows)(Size M, Size K, const REAL *a, Size am, Size ak, REAL *out) {
    for (Size tiles = gemm_parts(M, GEMM_ROWS); tiles > 0; tiles--) {
        Size rows = gemm_parts(M, tiles);
        for (Size k = 0; k < K; k++)
            for (Size i = 0; i < rows; i++) *out++ = a[i * am + k * ak];
        a += rows * am, M -= rows;
    }
}

/* Transpose a square of GEMM_LANES x GEMM_LANES: out has row stride `width`, b has row stride bn. */
static void NAME(gemm_transpose)(const REAL *b, Size bn, REAL *out, Size width) {
    NAME(Vector) x[GEMM_LANES], y[GEMM_LANES];
    GEMM_UNROLL for (int j = 0; j < GEMM_LANES; j++) x[j] = GEMM_READ(b + j * bn);
    GEMM_UNROLL for (int bit = 1; bit < GEMM_LANES; bit *= 2) {
        GEMM_UNROLL for (int j = 0; j < GEMM_LANES / 2; j++) {
            y[2 * j] = GEMM_SHUFFLE(x[j], x[j + GEMM_LANES / 2], GEMM_LOW);
            y[2 * j + 1] = GEMM_SHUFFLE(x[j], x[j + GEMM_LANES / 2], GEMM_HIGH);
        }
        GEMM_UNROLL for (int j = 0; j < GEMM_LANES; j++) x[j] = y[j];
    }
    GEMM_UNROLL for (int j = 0; j < GEMM_LANES; j++) GEMM_AT(out + j * width) = x[j];
}

/* Pack a panel of b, of `columns` columns: out (depth, width) is row-major, zero-padded to GEMM_LANES columns. */
static void NAME(gemm_pack)(Size depth, Size columns, const REAL *b, Size bk, Size bn, REAL *out, Size width) {
    if (bk == 1 && columns >= GEMM_LANES && depth >= GEMM_LANES) {
        for (Size at = 0; at < columns; at += GEMM_LANES)
            for (Size k = 0; k < depth; k += GEMM_LANES) {
                Size row = gemm_least(k, depth - GEMM_LANES), n = gemm_least(at, columns - GEMM_LANES);
                NAME(gemm_transpose)(b + row + n * bn, bn, out + row * width + n, width);
            }
        return;
    }
    if (bn == 1 && columns >= GEMM_LANES) {
        for (Size k = 0; k < depth; k++)
            for (Size at = 0; at < columns; at += GEMM_LANES) {
                Size n = gemm_least(at, columns - GEMM_LANES);
                GEMM_AT(out + k * width + n) = GEMM_READ(b + k * bk + n);
            }
        return;
    }
    for (Size k = 0; k < depth; k++) {
        for (Size n = 0; n < columns; n++) out[k * width + n] = b[k * bk + n * bn];
        for (Size n = columns; n < GEMM_LANES; n++) out[k * width + n] = 0;
    }
}

/* c (N) = a (rows) @ b (rows, N), added to c if `add`. The last vector may overlap the one before: it is read first. */
GEMM_INLINE void NAME(gemm_rows)(int rows, Size N, const REAL *a, Size ak, const REAL *b, Size bk, REAL *c, int add) {
    NAME(Vector) x[GEMM_STREAMS], sum, end = {0};
    Size last = N - GEMM_LANES;
    GEMM_UNROLL for (int i = 0; i < rows; i++) x[i] = a[i * ak] - (NAME(Vector)){0};
    if (add) end = GEMM_READ(c + last);
    GEMM_UNROLL for (int i = 0; i < rows; i++) end += x[i] * GEMM_READ(b + i * bk + last);
    for (Size n = 0; n < last; n += GEMM_LANES) {
        sum = add ? GEMM_READ(c + n) : (NAME(Vector)){0};
        GEMM_UNROLL for (int i = 0; i < rows; i++) sum += x[i] * GEMM_READ(b + i * bk + n);
        GEMM_AT(c + n) = sum;
    }
    GEMM_AT(c + last) = end;
}

/* A vector times a row-major matrix with wide rows: the time is that of reading the matrix, so its rows are read as they
   lie in memory, a few at a time. In a panel of them each would be in a page of its own. Sums have the order of tiles. */
static void NAME(gemm_row)(Size N, Size K, const REAL *a, Size ak, const REAL *b, Size bk, REAL *c, const REAL *more) {
    Size k = 0;
    for (; k <= K - GEMM_STREAMS; k += GEMM_STREAMS)
        NAME(gemm_rows)(GEMM_STREAMS, N, a + k * ak, ak, b + k * bk, bk, c, k > 0);
    for (; k < K; k++) NAME(gemm_rows)(1, N, a + k * ak, ak, b + k * bk, bk, c, k > 0);
    for (Size n = 0; more && n < N; n++) c[n] += more[n];
}

/* Rows of c in one block of K, of `depth`, over panels of columns. `tiled`: pack the rows of a by tiles first. `tall`:
   others like these follow, in memory too. `more`: NULL before the last block. */
static void NAME(gemm_block)(int packing, int tiled, int tall, Size most, Size M, Size N, Size depth, const REAL *a,
                             Size am, Size ak, const REAL *b, Size bk, Size bn, REAL *c, Size cm, int add,
                             const REAL *more, Size mm, REAL *scratch) {
    REAL sums[GEMM_ROWS * GEMM_LANES], *tiles = scratch + GEMM_PANEL / sizeof(REAL);
    if (tiled) {
        NAME(gemm_pack_rows)(M, depth, a, am, ak, tiles);
        a = tiles, am = depth;
    }
    Size vectors = gemm_parts(N, GEMM_LANES), width, columns;
    for (Size n = 0, panels = gemm_parts(vectors, most); panels > 0; panels--, n += columns) {
        width = vectors / panels, columns = gemm_least(width * GEMM_LANES, N - n), vectors -= width;
        const REAL *panel = packing == GEMM_PACKED ? b + n * depth : b + n * bn, *end = more ? more + n : NULL;
        Size step = packing == GEMM_IN_PLACE ? bk : width * GEMM_LANES;
        if (packing == GEMM_PACK || columns < GEMM_LANES) {
            step = width * GEMM_LANES;
            NAME(gemm_pack)(depth, columns, panel, bk, bn, scratch, step);
            panel = scratch;
        }
        if (columns >= GEMM_LANES) {
            NAME(gemm_panel)(tiled, M, width, columns - GEMM_LANES, depth, a, am, ak, panel, step, c + n, cm, add, end,
                             mm, tall ? a + M * am + n : NULL);
            continue;
        }
        for (Size m = 0, parts = gemm_parts(M, GEMM_ROWS), rows; parts > 0; parts--, m += rows) {
            rows = gemm_parts(M - m, parts);
            NAME(gemm_panel)(tiled, rows, 1, 0, depth, a + m * am, am, ak, panel, step, sums, GEMM_LANES, 0, NULL, 0,
                             NULL);
            for (Size i = 0; i < rows; i++)
                for (Size j = 0; j < columns; j++) {
                    REAL *out = c + (m + i) * cm + n + j;
                    *out = add ? *out + sums[i * GEMM_LANES + j] : sums[i * GEMM_LANES + j];
                    if (end) *out += end[(m + i) * mm + j];
                }
        }
    }
}

/* Pack b for products with more than one row; out has the columns of b, up to a multiple of GEMM_LANES. */
static void NAME(gemm_pack_all)(Size N, Size K, const REAL *b, Size bk, Size bn, REAL *out) {
    for (Size k = 0, parts = gemm_parts(K, GEMM_DEPTH), depth; parts > 0; parts--, k += depth) {
        depth = (K - k) / parts;
        Size vectors = gemm_parts(N, GEMM_LANES), width, columns;
        for (Size n = 0, panels = gemm_parts(vectors, GEMM_VECTORS); panels > 0; panels--, n += columns) {
            width = vectors / panels, columns = gemm_least(width * GEMM_LANES, N - n), vectors -= width;
            NAME(gemm_pack)(depth, columns, b + k * bk + n * bn, bk, bn, out, width * GEMM_LANES);
            out += depth * width * GEMM_LANES;
        }
    }
}

/* Tiles over blocks of K, and of rows that fit in GEMM_BLOCK. `packing`: GEMM_PACK, or, if b is row-major, one of the
   others. Many rows go through memory once: b stays in the L2 cache as a whole, some rows of a in the L1 cache. */
static void NAME(gemm_panels)(int packing, Size M, Size N, Size K, const REAL *a, Size am, Size ak, const REAL *b,
                              Size bk, Size bn, REAL *c, Size cm, const REAL *more, Size mm, REAL *scratch) {
    if (packing == GEMM_IN_PLACE && M == 1 && N * (Size)sizeof(REAL) >= GEMM_PAGE) {
        NAME(gemm_row)(N, K, a, ak, b, bk, c, more);
        return;
    }
    Size most = M == 1 ? GEMM_WIDE : GEMM_VECTORS, depth, rows, wide = gemm_parts(N, GEMM_LANES) * GEMM_LANES;
    int tall = packing != GEMM_IN_PLACE && ak == 1 && M > GEMM_TALL && N >= GEMM_LANES &&
               wide * K * (Size)sizeof(REAL) <= GEMM_BLOCK;
    int tiled = GEMM_BLOCK && packing != GEMM_IN_PLACE && !tall && (ak != 1 || N >= GEMM_MANY);
    if (tall && packing == GEMM_PACK) {
        REAL *all = scratch + GEMM_PANEL / sizeof(REAL);
        NAME(gemm_pack_all)(N, K, b, bk, bn, all);
        b = all, packing = GEMM_PACKED;
    }
    if (packing == GEMM_PACKED) bk = wide;
    for (Size k = 0, parts = gemm_parts(K, GEMM_DEPTH); parts > 0; parts--, k += depth) {
        depth = (K - k) / parts;
        Size high = tiled ? GEMM_BLOCK / (depth * sizeof(REAL)) : tall ? GEMM_TALL : M;
        for (Size m = 0, blocks = gemm_parts(M, high); blocks > 0; blocks--, m += rows) {
            rows = (M - m) / blocks;
            NAME(gemm_block)(packing, tiled, tall, most, rows, N, depth, a + m * am + k * ak, am, ak, b + k * bk, bk,
                             bn, c + m * cm, cm, k > 0, more && parts == 1 ? more + m * mm : NULL, mm, scratch);
        }
    }
}

#include "dots.h"

/* -- choice of the microkernel ------------------------------------------------------------------------------------- */

/* Whether a matrix may be larger than the L1 cache. */
static bool NAME(is_large)(Size N, Size K) { return N * K * (Size)sizeof(REAL) >= GEMM_CACHE; }

/* c = a @ b, + more unless that is NULL: its row stride is mm, 0 for one row that is added to each.
   `all` is the number of rows of all workers. The choice depends on it, so that the bits do not depend on the split. */
static void NAME(gemm)(Size all, Size M, Size N, Size K, const REAL *a, Size am, Size ak, const REAL *b, Size bk,
                       Size bn, REAL *c, Size cm, const REAL *more, Size mm, REAL *scratch) {
    if (K <= 0) {
        for (Size m = 0; m < M; m++) memset(c + m * cm, 0, N * sizeof(REAL));
        return;
    }
    if (N == 1 && ak == 1 && bk != 1 && K * sizeof(REAL) <= GEMM_PANEL) {
        for (Size k = 0; k < K; k++) scratch[k] = b[k * bk];
        b = scratch, bk = 1;
    }
    if (bn == 1 && N >= GEMM_LANES) {
        int packing = GEMM_PACKS(M, N, K, bk) ? GEMM_PACK : GEMM_IN_PLACE;
        NAME(gemm_panels)(packing, M, N, K, a, am, ak, b, bk, bn, c, cm, more, mm, scratch);
    } else if (ak == 1 && bk == 1 && (all <= GEMM_FEW || N < GEMM_LANES)) {
        NAME(gemm_along)(M, N, K, a, am, b, bn, c, cm, 1);
        for (Size m = 0; more && m < M; m++)
            for (Size n = 0; n < N; n++) c[m * cm + n] += more[m * mm + n];
    } else if (N == 1 && cm == 1 && am == 1 && M >= GEMM_LANES && (!more || mm == 1)) { /* vector @ matrix, as c.T */
        NAME(gemm_panels)(GEMM_IN_PLACE, 1, M, K, b, 0, bk, a, ak, 1, c, M, more, M, scratch);
    } else {
        NAME(gemm_panels)(GEMM_PACK, M, N, K, a, am, ak, b, bk, bn, c, cm, more, mm, scratch);
    }
}
