/* What depends on the type: 32 or 64 bits, set as TYPE before this is included. */

#undef REAL
#undef OTHER
#undef BITS
#undef LANES
#undef NAME
#undef LIBM
#undef EXP_SHIFT
#undef EXP_LN2_HIGH
#undef EXP_LN2_LOW
#undef EXP_BIAS
#undef EXP_MANTISSA
#undef EXP_LEAST
#undef EXP_NOTHING
#undef EXP_LIFT
#undef EXP_MOST
#undef EXP_TANH_ONE
#undef EXP_TAIL
#undef EXP_NORMAL

/* Constants of exp, by range reduction x = k ln 2 + r (Cody and Waite): ln 2 = EXP_LN2_HIGH + EXP_LN2_LOW, where
   EXP_LN2_HIGH has so few bits that k times it is exact. Adding EXP_SHIFT rounds to an integer.
   For EXP_LEAST <= x <= EXP_MOST exp(x) is a normal number; for x < EXP_NOTHING it rounds to 0.
   2^EXP_LIFT times the smallest subnormal number is a normal number; EXP_NORMAL is the smallest normal one.
   EXP_TAIL is (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2: the Taylor series to the precision of the type.
   From EXP_TANH_ONE on, tanh rounds to 1. */
#if TYPE == 32
#define REAL float
#define OTHER double
#define BITS uint32_t
#define LANES 16
#define NAME(x) x##_f32
#define LIBM(x) x##f
#define EXP_SHIFT 0x1.8p23f
#define EXP_LN2_HIGH 0x1.62e4p-1f
#define EXP_LN2_LOW 1.428606820309417e-6f
#define EXP_BIAS 127u
#define EXP_MANTISSA 23
#define EXP_LEAST -86.9f
#define EXP_NOTHING -103.972077f
#define EXP_LIFT 32
#define EXP_MOST 88.72283f
#define EXP_TANH_ONE 9.2f
#define EXP_NORMAL 0x1p-126f
#define EXP_TAIL(r)                                                                                                  \
    (0.5f + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720 + r * (1.0f / 5040))))))
#else
#define REAL double
#define OTHER float
#define BITS uint64_t
#define LANES 8
#define NAME(x) x##_f64
#define LIBM(x) x
#define EXP_SHIFT 0x1.8p52
#define EXP_LN2_HIGH 0x1.62e42feep-1
#define EXP_LN2_LOW 1.9082149292705877e-10
#define EXP_BIAS 1023ull
#define EXP_MANTISSA 52
#define EXP_LEAST -708.0
#define EXP_NOTHING -745.1332191019411
#define EXP_LIFT 60
#define EXP_MOST 709.782712893384
#define EXP_TANH_ONE 20.0
#define EXP_NORMAL 0x1p-1022
#define EXP_TAIL(r)                                                                                                  \
    (0.5 + r * (1.0 / 6 + r * (1.0 / 24 + r * (1.0 / 120 + r * (1.0 / 720 + r * (1.0 / 5040 + r * (1.0 / 40320 +      \
     r * (1.0 / 362880 + r * (1.0 / 3628800 + r * (1.0 / 39916800 + r * (1.0 / 479001600 +                           \
     r * (1.0 / 6227020800))))))))))))
#endif
