/* A record: one call of a plan, as encode.py writes it: plain numbers, so that a plan can be read from other languages. */

#ifndef RECORD_H
#define RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef ptrdiff_t Size; /* of arrays and steps in them, as wide as a pointer: long has 32 bits on Windows */

enum { OUT, A, B, C, OPERANDS };

enum { BLOCK = 2048, BLOCKS = 16 }; /* elements of a block of a chain; blocks that a chain may keep in cache */

enum { ALL_WELL = 2 };

typedef struct {
    int32_t op;               /* one of the numbers of operations.h */
    int32_t type;             /* 0: float, 1: double */
    int32_t split;            /* 0: worker 0 does it all; 1: the workers share n[0]; 2: they share n[1]; 3: n[0], in
                                 whole lines */
    int32_t wait;             /* 1: every worker waits here for all others before it goes on; ALL_WELL: and goes on only
                                 if no id was out of range. No record after that looks at ids */
    int64_t base[OPERANDS];   /* the memory that an operand lies in; -1: it is x[] of that operand, -2 - k: block k */
    int64_t offset[OPERANDS]; /* bytes from there */
    int64_t step_stride[OPERANDS]; /* within a loop: bytes that are added to the offset at each step */
    int64_t n[4];             /* sizes; n[3] of a product: 2 if its matrix, B or the A of a split by lines, is the same
                                 at all steps of the loop; of a chain: elements, records after it that it does; of a
                                 loop: steps, records after it that are its body, 1 if it goes from the last step to
                                 the first */
    int64_t s[OPERANDS][3];   /* steps of each operand along n[0], n[1], n[2], in elements */
    double x[OPERANDS];       /* numbers */
} Record;

typedef struct Part Part;
typedef void Run(Part *part);

/* An elementwise loop over n elements: p and s hold pointers and steps of the result, a, b and c. */
typedef void Loop(Size n, void *const *p, const Size *s);

/* What one worker does of a record, made ready once and done at each step of a loop. What short elementwise records
   need comes first, in two cache lines. */
struct Part {
    _Alignas(64) Run *run;
    Loop *loop;               /* of an elementwise record */
    void *p[OPERANDS];        /* at this step */
    Size n[3], s[3][OPERANDS]; /* of an elementwise record; axes that follow each other in memory are one */
    int64_t step_stride[OPERANDS]; /* bytes to the operands of the step that is done next */
    int64_t t;                /* this step */
    const Record *record;
    char *const *bases;
    void *scratch;
    int64_t lo, hi;           /* its part of the axis that is shared */
    union { float of_f32[OPERANDS]; double of_f64[OPERANDS]; } number; /* x of the record, in its type */
    bool wait;                /* for all workers, before it */
    bool failed;              /* set where an id is out of range; nothing outside the operands was touched then */
};

#endif
