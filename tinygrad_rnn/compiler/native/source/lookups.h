/* -- lookups: ids in B, in rows of n[2]; n[3] is the number of rows of the table ----------------------------------- */

static inline int64_t NAME(id)(const Record *record, const int64_t *ids, Size row) {
    return ids[row / record->n[2] * record->s[B][0] + row % record->n[2] * record->s[B][1]];
}

/* The row of the table that id number r selects, counted from the end if it is negative; -1, and `failed`, if there is
   none. */
static inline Size NAME(row)(Part *part, Size r) {
    const Record *record = part->record;
    int64_t id = NAME(id)(record, part->p[B], r), count = record->n[3];
    id = id < 0 ? id + count : id;
    bool there = id >= 0 && id < count;
    part->failed = part->failed || !there;
    return there ? id : -1;
}

/* out (n[0], n[1]) = a[ids], a (n[3], n[1]) */
static void NAME(take)(Part *part) {
    const Record *record = part->record;
    for (Size r = part->lo; r < part->hi; r++) {
        Size row = NAME(row)(part, r);
        if (row >= 0)
            memcpy((REAL *)part->p[OUT] + r * record->s[OUT][0], (REAL *)part->p[A] + row * record->s[A][0],
                   record->n[1] * sizeof(REAL));
    }
}

/* out (n[3], n[1]) = 0; out[ids] += a (n[0], n[1]), in the order of the ids */
static void NAME(take_back)(Part *part) {
    const Record *record = part->record;
    Size D = record->n[1], lo = part->lo, width = part->hi - part->lo;
    REAL *out = (REAL *)part->p[OUT] + lo;
    for (Size v = 0; v < record->n[3]; v++) memset(out + v * D, 0, width * sizeof(REAL));
    for (Size r = 0; r < record->n[0]; r++) {
        Size row = NAME(row)(part, r);
        const REAL *more = (REAL *)part->p[A] + r * record->s[A][0] + lo;
        if (row >= 0)
            for (Size j = 0; j < width; j++) out[row * D + j] += more[j];
    }
}

/* -- gradients of lookups as rows and values ----------------------------------------------------------------------- */

/* out (n[0]) = the row of the table that an id selects, at the first id that selects it; -1 at the others.
   A has n[1] entries: a hash table with linear probing, then `first` (n[0]): for each id the number of the first one
   that selects the same row. */
static void NAME(find_equal)(Part *part) {
    const Record *record = part->record;
    Size rows = record->n[0], size = record->n[1] - rows;
    int64_t *places = part->p[OUT], *found = part->p[A], *first = found + size;
    for (Size k = 0; k < size; k++) found[k] = -1;
    for (Size r = 0; r < rows; r++) {
        Size row = NAME(row)(part, r), k = row % size;
        places[r] = -1, first[r] = r;
        if (row < 0) continue;
        while (found[k] >= 0 && places[found[k]] != row) k = k + 1 < size ? k + 1 : 0;
        if (found[k] < 0) found[k] = r, places[r] = row;
        first[r] = found[k];
    }
}

/* out (n[0], n[1]) = 0; out[first] += a, with `first` in B */
static void NAME(add_equal)(Part *part) {
    const Record *record = part->record;
    const int64_t *first = part->p[B];
    Size lo = part->lo, width = part->hi - part->lo;
    if (width <= 0) return;
    for (Size r = 0; r < record->n[0]; r++)
        memset((REAL *)part->p[OUT] + r * record->s[OUT][0] + lo, 0, width * sizeof(REAL));
    for (Size r = 0; r < record->n[0]; r++) {
        REAL *out = (REAL *)part->p[OUT] + first[r] * record->s[OUT][0] + lo;
        const REAL *more = (REAL *)part->p[A] + r * record->s[A][0] + lo;
        for (Size j = 0; j < width; j++) out[j] += more[j];
    }
}

/* out (n[2], n[1])[places] -= a (n[0], n[1]), with the places in B; -1: none */
static void NAME(subtract_rows)(Part *part) {
    const Record *record = part->record;
    const int64_t *places = part->p[B];
    for (Size r = 0; r < record->n[0]; r++) {
        if (places[r] < 0) continue;
        REAL *out = (REAL *)part->p[OUT] + places[r] * record->s[OUT][0];
        const REAL *less = (REAL *)part->p[A] + r * record->s[A][0];
        for (Size j = part->lo; j < part->hi; j++) out[j] -= less[j];
    }
}
