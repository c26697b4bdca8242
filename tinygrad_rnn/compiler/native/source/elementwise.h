/* The elementwise operations as X(name, type of the result, expression in x and y): their numbers, their loops and the
   table of them are made from this list. compiler/elementwise.py has the same names in the same order. `where`, which
   has three operands, follows with a loop of its own. */
#define ELEMENTWISE(X)                                                                                                \
    X(add, REAL, x + y)                                                                                               \
    X(subtract, REAL, x - y)                                                                                          \
    X(multiply, REAL, x * y)                                                                                          \
    X(divide, REAL, x / y)                                                                                            \
    X(maximum, REAL, x > y || x != x ? x : y)                                                                         \
    X(minimum, REAL, x < y || x != x ? x : y)                                                                         \
    X(power, REAL, LIBM(pow)(x, y))                                                                                   \
    X(copy, REAL, x)                                                                                                  \
    X(negative, REAL, -x)                                                                                             \
    X(sqrt, REAL, LIBM(sqrt)(x))                                                                                      \
    X(relu, REAL, x > 0 || x != x ? x : 0)                                                                            \
    X(exp, REAL, NAME(exp_gradual)(x))                                                                                \
    X(tanh, REAL, NAME(tanh)(x))                                                                                      \
    X(sigmoid, REAL, NAME(sigmoid)(x))                                                                                \
    X(sigmoid_slope, REAL, x / (1 + NAME(exp)(y)))                                                                    \
    X(softplus, REAL, NAME(logaddexp)(x, 0))                                                                          \
    X(log, REAL, LIBM(log)(x))                                                                                        \
    X(sin, REAL, LIBM(sin)(x))                                                                                        \
    X(cos, REAL, LIBM(cos)(x))                                                                                        \
    X(tan, REAL, LIBM(tan)(x))                                                                                        \
    X(arcsin, REAL, LIBM(asin)(x))                                                                                    \
    X(arccos, REAL, LIBM(acos)(x))                                                                                    \
    X(arctan, REAL, LIBM(atan)(x))                                                                                    \
    X(sinh, REAL, LIBM(sinh)(x))                                                                                      \
    X(cosh, REAL, LIBM(cosh)(x))                                                                                      \
    X(arcsinh, REAL, LIBM(asinh)(x))                                                                                  \
    X(arccosh, REAL, LIBM(acosh)(x))                                                                                  \
    X(arctanh, REAL, LIBM(atanh)(x))                                                                                  \
    X(log1p, REAL, LIBM(log1p)(x))                                                                                    \
    X(expm1, REAL, LIBM(expm1)(x))                                                                                    \
    X(log2, REAL, LIBM(log2)(x))                                                                                      \
    X(log10, REAL, LIBM(log10)(x))                                                                                    \
    X(exp2, REAL, LIBM(exp2)(x))                                                                                      \
    X(cbrt, REAL, LIBM(cbrt)(x))                                                                                      \
    X(floor, REAL, LIBM(floor)(x))                                                                                    \
    X(ceil, REAL, LIBM(ceil)(x))                                                                                      \
    X(trunc, REAL, LIBM(trunc)(x))                                                                                    \
    X(rint, REAL, LIBM(rint)(x))                                                                                      \
    X(sign, REAL, NAME(sign)(x))                                                                                      \
    X(arctan2, REAL, LIBM(atan2)(x, y))                                                                               \
    X(hypot, REAL, LIBM(hypot)(x, y))                                                                                 \
    X(fmod, REAL, LIBM(fmod)(x, y))                                                                                   \
    X(logaddexp, REAL, NAME(logaddexp)(x, y))                                                                         \
    X(remainder, REAL, NAME(remainder)(x, y))                                                                         \
    X(floor_divide, REAL, NAME(floor_divide)(x, y))                                                                   \
    X(less, uint8_t, x < y)                                                                                           \
    X(less_equal, uint8_t, x <= y)                                                                                    \
    X(greater, uint8_t, x > y)                                                                                        \
    X(greater_equal, uint8_t, x >= y)                                                                                 \
    X(equal, uint8_t, x == y)                                                                                         \
    X(not_equal, uint8_t, x != y)
