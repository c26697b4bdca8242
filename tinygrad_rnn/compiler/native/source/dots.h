/* Products by dots: a and b are contiguous along K, and so are vectors. A part of gemm.h. */

/* rows x 4 dot products, K >= GEMM_LANES, to c[i * cm + j * cn]. */
GEMM_INLINE void NAME(gemm_dots)(int rows, Size K, const REAL *a, Size am, const REAL *b, Size bn, REAL *c, Size cm,
                                 Size cn, int add) {
    NAME(Vector) sum[GEMM_DOT_ROWS][4], y[4], x;
    GEMM_UNROLL for (int i = 0; i < rows; i++)
        GEMM_UNROLL for (int j = 0; j < 4; j++) sum[i][j] = (NAME(Vector)){0};
    Size k = 0;
    for (; k <= K - GEMM_LANES; k += GEMM_LANES) {
        GEMM_UNROLL for (int j = 0; j < 4; j++) y[j] = GEMM_READ(b + j * bn + k);
        GEMM_UNROLL for (int i = 0; i < rows; i++) {
            x = GEMM_READ(a + i * am + k);
            GEMM_HOLD(x);
            GEMM_UNROLL for (int j = 0; j < 4; j++) sum[i][j] += x * y[j];
        }
    }
    if (k < K) { /* the remainder: the last GEMM_LANES numbers, masked where the loop has read them */
        NAME(Bits) left;
        for (int l = 0; l < GEMM_LANES; l++) left[l] = -(l >= k + GEMM_LANES - K);
        k = K - GEMM_LANES;
        GEMM_UNROLL for (int j = 0; j < 4; j++)
            y[j] = (NAME(Vector))((NAME(Bits))GEMM_READ(b + j * bn + k) & left);
        GEMM_UNROLL for (int i = 0; i < rows; i++) {
            x = (NAME(Vector))((NAME(Bits))GEMM_READ(a + i * am + k) & left);
            GEMM_UNROLL for (int j = 0; j < 4; j++) sum[i][j] += x * y[j];
        }
    }
    GEMM_UNROLL for (int i = 0; i < rows; i++) {
        /* lanes 4 p + j are partial sums of dot product j */
        x = GEMM_FOLD(GEMM_FOLD(sum[i][0], sum[i][2]), GEMM_FOLD(sum[i][1], sum[i][3]));
        const NAME(Four) *part = (const NAME(Four) *)&x;
        NAME(Four) total = part[0];
        GEMM_UNROLL for (int p = 1; p < GEMM_LANES / 4; p++) total += part[p];
        REAL *out = c + i * cm;
        for (int j = 0; j < 4 && add; j++) total[j] += out[j * cn];
        if (cn == 1)
            *(NAME(Four) *)out = total;
        else
            for (int j = 0; j < 4; j++) out[j * cn] = total[j];
    }
}

static void NAME(gemm_any_dots)(Size rows, Size K, const REAL *a, Size am, const REAL *b, Size bn, REAL *c, Size cm,
                                Size cn, int add) {
#define DOTS(R) case R: NAME(gemm_dots)(R, K, a, am, b, bn, c, cm, cn, add); return;
    switch (rows) {
        DOTS(1) DOTS(2)
#ifdef __AVX512F__
        DOTS(3) DOTS(4) DOTS(5) DOTS(6)
#endif
    }
#undef DOTS
}

static REAL NAME(gemm_dot)(Size K, const REAL *a, const REAL *b) {
    NAME(Vector) sum[8] = {0};
    REAL total = 0;
    Size k = 0;
    for (; k <= K - 8 * GEMM_LANES; k += 8 * GEMM_LANES)
        GEMM_UNROLL for (int j = 0; j < 8; j++)
            sum[j] += GEMM_READ(a + k + j * GEMM_LANES) * GEMM_READ(b + k + j * GEMM_LANES);
    for (; k <= K - GEMM_LANES; k += GEMM_LANES) sum[0] += GEMM_READ(a + k) * GEMM_READ(b + k);
    for (int j = 1; j < 8; j++) sum[0] += sum[j];
    for (int l = 0; l < GEMM_LANES; l++) total += sum[0][l];
    for (; k < K; k++) total += a[k] * b[k];
    return total;
}

/* All of c by dots, four columns at a time; the last four may overlap those before. a and b are contiguous along K. */
static void NAME(gemm_along)(Size M, Size N, Size K, const REAL *a, Size am, const REAL *b, Size bn, REAL *c, Size cm,
                             Size cn) {
    if (N < 4 && M >= 4 && K >= GEMM_LANES) {
        NAME(gemm_along)(N, M, K, b, bn, a, am, c, cn, cm);
        return;
    }
    if (N < 4 || K < GEMM_LANES) {
        for (Size m = 0; m < M; m++)
            for (Size n = 0; n < N; n++) c[m * cm + n * cn] = NAME(gemm_dot)(K, a + m * am, b + n * bn);
        return;
    }
    for (Size at = 0; at < N; at += 4) {
        Size n = gemm_least(at, N - 4), depth, rows;
        for (Size k = 0, parts = gemm_parts(K, GEMM_DOT_DEPTH); parts > 0; parts--, k += depth) {
            const REAL *x = a + k, *y = b + n * bn + k;
            depth = parts == 1 ? K - k : (K - k) / parts / GEMM_LANES * GEMM_LANES;
            for (Size m = 0, tiles = gemm_parts(M, GEMM_DOT_ROWS); tiles > 0; tiles--, m += rows) {
                rows = gemm_parts(M - m, tiles);
                NAME(gemm_any_dots)(rows, depth, x + m * am, am, y, bn, c + m * cm + n * cn, cm, cn, k > 0);
            }
        }
    }
}
