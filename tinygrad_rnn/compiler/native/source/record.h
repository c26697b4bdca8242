/* A record: one call of a plan, as encode.py writes it. It holds numbers only, so that other languages can write it. */

#ifndef RECORD_H
#define RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef ptrdiff_t Size; /* sizes and strides; as wide as a pointer, which long is not on Windows */

enum { OUT, A, B, C, OPERANDS };

enum { BLOCK = 2048, BLOCKS = 16 }; /* elements of a block of a chain; blocks of scratch memory for it */

enum { ALL_WELL = 2 }; /* see `wait` */

typedef struct {
    int32_t op;               /* the operation: a number of operations.h */
    int32_t type;             /* 0: float, 1: double */
    int32_t split;            /* 0: worker 0 does it all; 1: workers split n[0]; 2: n[1], in multiples of 16; 3: n[0],
                                 in multiples of 16 */
    int32_t wait;             /* 0: no barrier; 1: a barrier before it; ALL_WELL: also, return there if an id was out of
                                 range. No record after that one reads ids */
    int64_t base[OPERANDS];   /* number of the memory of an operand; -1: the number x; -2 - k: block k of a chain */
    int64_t offset[OPERANDS]; /* in that memory, in bytes */
    int64_t step_stride[OPERANDS]; /* within a loop: bytes from step to step */
    int64_t n[4];             /* sizes. Of a product: M, N, K, and 2 if the matrix is loop-invariant (B, or A with split
                                 3). Of a chain: elements, number of records after it that belong to it. Of a loop:
                                 steps, number of records after it that are its body, 1 if it runs from the last step
                                 to the first */
    int64_t s[OPERANDS][3];   /* strides of each operand along n[0], n[1], n[2], in elements */
    double x[OPERANDS];       /* numbers in place of arrays, and factors */
} Record;

typedef struct Part Part;
typedef void Run(Part *part);

/* An elementwise loop over n elements: pointers p and strides s of the result, a, b and c. */
typedef void Loop(Size n, void *const *p, const Size *s);

/* The part of a record that one worker does: prepared once, run at each step of a loop. What short elementwise records
   need comes first. */
struct Part {
    _Alignas(64) Run *run;
    Loop *loop;               /* of an elementwise record */
    void *p[OPERANDS];        /* at this step */
    Size n[3], s[3][OPERANDS]; /* of an elementwise record, with adjacent axes merged */
    int64_t step_stride[OPERANDS]; /* bytes to the operands at the next iteration */
    int64_t t;                /* this step */
    const Record *record;
    char *const *bases;
    void *scratch;
    int64_t lo, hi;           /* its range of the axis that is split */
    union { float of_f32[OPERANDS]; double of_f64[OPERANDS]; } number; /* x, in the type of the record */
    bool wait;                /* at a barrier before it */
    bool failed;              /* set if an id is out of range; such an id is never used as an index */
};

#endif
