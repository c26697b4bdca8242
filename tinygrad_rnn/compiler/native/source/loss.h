/* Of logits a (n[0], n[1]): the cross-entropy and x[A] times its gradient, in out; the logarithms of a softmax. */

static REAL NAME(largest)(Size n, const REAL *a) {
    REAL most = a[0];
#pragma omp simd reduction(max : most)
    for (Size i = 0; i < n; i++) most = a[i] > most ? a[i] : most;
    return most;
}

static REAL NAME(exps)(Size n, REAL *out, const REAL *a, REAL most) {
    REAL total = 0;
#pragma omp simd reduction(+ : total)
    for (Size i = 0; i < n; i++) {
        REAL y = NAME(exp)(a[i] - most);
        out[i] = y;
        total += y;
    }
    return total;
}

/* Number of the positions whose target, in B, is not ignored (x[B]). */
static Size NAME(positions)(const Record *record, const int64_t *targets) {
    Size count = 0;
    for (Size r = 0; r < record->n[0]; r++) count += NAME(id)(record, targets, r) != (int64_t)record->x[B];
    return count;
}

/* Also writes the nats of each row to C (double). `mean_nats` adds them up: in one order for any number of workers. */
static void NAME(loss_and_gradient)(Part *part) {
    enum { SPAN = 32 * LANES };
    const Record *record = part->record;
    const int64_t *targets = part->p[B];
    Size V = record->n[1];
    REAL weight = (REAL)(record->x[A] / (double)NAME(positions)(record, targets));
    for (Size r = part->lo; r < part->hi; r++) {
        const REAL *a = (REAL *)part->p[A] + r * record->s[A][0];
        REAL *out = (REAL *)part->p[OUT] + r * record->s[OUT][0];
        int64_t target = NAME(id)(record, targets, r);
        if (target == (int64_t)record->x[B]) {
            memset(out, 0, V * sizeof(REAL));
            ((double *)part->p[C])[r] = 0;
            continue;
        }
        if (target < 0 || target >= V) {
            part->failed = true;
            return;
        }
        REAL most = NAME(largest)(V, a), shifted = a[target] - most;
        REAL total = 0;
        for (Size j = 0; j < V; j += SPAN) { /* prefetch the next row while this one computes */
            Size count = V - j < SPAN ? V - j : SPAN;
            if (r + 1 < part->hi)
                for (Size k = 0; k < count; k += LANES) __builtin_prefetch(a + record->s[A][0] + j + k);
            total += NAME(exps)(count, out + j, a + j, most);
        }
        REAL factor = weight / total;
        for (Size j = 0; j < V; j++) out[j] *= factor;
        out[target] -= weight;
        ((double *)part->p[C])[r] = log((double)total) - (double)shifted;
    }
}

/* out = the mean of the nats in A */
static void NAME(mean_nats)(Part *part) {
    const Record *record = part->record;
    double total = 0;
    for (Size r = 0; r < record->n[0]; r++) total += ((double *)part->p[A])[r];
    *(REAL *)part->p[OUT] = (REAL)(total / (double)NAME(positions)(record, part->p[B]));
}

/* The largest of a row, and 0 if it is infinite, from which nothing can be taken away. */
static REAL NAME(shift)(Size n, const REAL *a) {
    REAL most = NAME(largest)(n, a);
    return most - most == 0 ? most : 0;
}

/* out (n[0], n[1]) = a - log(sum(exp(a))) along each row */
static void NAME(log_softmax)(Part *part) {
    enum { PIECE = 1024 };
    const Record *record = part->record;
    Size V = record->n[1];
    for (Size r = part->lo; r < part->hi; r++) {
        const REAL *a = (REAL *)part->p[A] + r * record->s[A][0];
        REAL *out = (REAL *)part->p[OUT] + r * record->s[OUT][0], shift = NAME(shift)(V, a);
        double total = 0;
        for (Size j = 0; j < V; j += PIECE)
            total += (double)NAME(exps)(V - j < PIECE ? V - j : PIECE, out + j, a + j, shift);
        REAL nats = (REAL)log(total);
        for (Size j = 0; j < V; j++) out[j] = (a[j] - shift) - nats;
    }
}

/* out (n[0]) = log(sum(exp(a))) along each row */
static void NAME(logsumexp)(Part *part) {
    enum { PIECE = 256 };
    const Record *record = part->record;
    REAL powers[PIECE];
    for (Size r = part->lo; r < part->hi; r++) {
        const REAL *a = (REAL *)part->p[A] + r * record->s[A][0];
        REAL shift = NAME(shift)(record->n[1], a);
        double total = 0;
        for (Size j = 0; j < record->n[1]; j += PIECE)
            total += (double)NAME(exps)(record->n[1] - j < PIECE ? record->n[1] - j : PIECE, powers, a + j, shift);
        ((REAL *)part->p[OUT])[r * record->s[OUT][0]] = (REAL)(log(total) + (double)shift);
    }
}
