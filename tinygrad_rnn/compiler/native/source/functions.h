/* Functions of one number or two, for the type that real.h has set, that elementwise.h names. Loops over those without
   LIBM become vector instructions. */

/* For x = k ln 2 + r, |r| <= ln(2) / 2: return exp(r) - 1, and 2^(k + bias - EXP_BIAS) in *scale. */
static inline REAL NAME(exp_part)(REAL x, BITS bias, REAL *scale) {
    REAL shifted = x * (REAL)1.44269504088896340736 + EXP_SHIFT; /* rounded to an integer, k, in its low bits */
    REAL k = shifted - EXP_SHIFT;
    REAL r = (x - k * EXP_LN2_HIGH) - k * EXP_LN2_LOW;
    BITS bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + bias) << EXP_MANTISSA;
    memcpy(scale, &bits, sizeof bits);
    return r + r * r * EXP_TAIL(r);
}

/* exp(x), with subnormal results: they are computed scaled by 2^EXP_LIFT. */
static inline REAL NAME(exp_gradual)(REAL x) {
    bool small = x < EXP_LEAST;
    REAL bounded = x < EXP_NOTHING ? EXP_NOTHING : x > EXP_MOST ? EXP_MOST : x; /* NaN stays */
    REAL half, p = NAME(exp_part)(bounded, EXP_BIAS - 1 + (small ? EXP_LIFT : 0), &half);
    REAL y = 2 * (half + half * p) * (small ? 1 / (REAL)(1ull << EXP_LIFT) : 1);
    y = x < EXP_NOTHING ? 0 : y;
    return x > EXP_MOST ? (REAL)INFINITY : y;
}

/* exp(x) for sums in which subnormal numbers are lost: 0 in place of these. */
static inline REAL NAME(exp)(REAL x) {
    REAL bounded = x < EXP_LEAST ? EXP_LEAST : x > EXP_MOST ? EXP_MOST : x; /* NaN stays */
    REAL half, p = NAME(exp_part)(bounded, EXP_BIAS - 1, &half); /* 2^128 is no float, 2^127 is one */
    REAL y = 2 * (half + half * p);
    y = x < EXP_LEAST ? 0 : y;
    return x > EXP_MOST ? (REAL)INFINITY : y;
}

/* tanh(x) = -e / (2 + e) with e = exp(-2 |x|) - 1, which is exact to rounding near 0 too. */
static inline REAL NAME(tanh)(REAL x) {
    REAL a = x < 0 ? -x : x;
    a = a > EXP_TANH_ONE ? EXP_TANH_ONE : a; /* from there on it rounds to 1 */
    REAL scale, p = NAME(exp_part)(-2 * a, EXP_BIAS, &scale);
    REAL e = scale * p + (scale - 1);
    return LIBM(copysign)(e / (2 + e), x);
}

static inline REAL NAME(sigmoid)(REAL x) { return 1 / (1 + NAME(exp)(-x)); }

/* sigmoid(x) if the sign bit of x is set, else sigmoid(x) - 1: never 0, so that the sign tells which */
static inline REAL NAME(sigmoid_tail)(REAL x) {
    REAL e = NAME(exp)(x > 0 ? -x : x), y = e / (1 + e);
    return -LIBM(copysign)(y < EXP_NORMAL ? EXP_NORMAL : y, x);
}

static inline REAL NAME(sign)(REAL x) { return x > 0 ? 1 : x < 0 ? -1 : x == 0 ? 0 : x; }

/* a - floor(a / b) * b, with the sign of b, zero included */
static inline REAL NAME(remainder)(REAL a, REAL b) {
    REAL left = LIBM(fmod)(a, b);
    if (b == 0) return left; /* NaN */
    return left == 0 ? LIBM(copysign)(0, b) : (b < 0) != (left < 0) ? left + b : left;
}

/* floor(a / b), from the remainder, which is exact; the quotient is rounded */
static inline REAL NAME(floor_divide)(REAL a, REAL b) {
    if (b == 0) return a / b;
    REAL left = LIBM(fmod)(a, b), quotient = (a - left) / b;
    if (left != 0 && (b < 0) != (left < 0)) quotient -= 1;
    REAL whole = LIBM(floor)(quotient);
    return quotient == 0 ? LIBM(copysign)(0, a / b) : quotient - whole > (REAL)0.5 ? whole + 1 : whole;
}

static inline REAL NAME(logaddexp)(REAL a, REAL b) {
    if (a == b) return a + (REAL)0.693147180559945309417; /* for equal infinities too */
    REAL d = a - b;
    return d > 0 ? a + LIBM(log1p)(LIBM(exp)(-d)) : d <= 0 ? b + LIBM(log1p)(LIBM(exp)(d)) : d;
}
