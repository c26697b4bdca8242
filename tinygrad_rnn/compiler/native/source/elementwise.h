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
    X(power, REAL, POWER(x, y))                                                                                       \
    X(copy, REAL, x)                                                                                                  \
    X(negative, REAL, -x)                                                                                             \
    X(sqrt, REAL, SQRT(x))                                                                                            \
    X(relu, REAL, x > 0 || x != x ? x : 0)                                                                            \
    X(exp, REAL, NAME(exp)(x))                                                                                        \
    X(tanh, REAL, NAME(tanh)(x))                                                                                      \
    X(sigmoid, REAL, NAME(sigmoid)(x))                                                                                \
    X(log, REAL, LOG(x))                                                                                              \
    X(less, uint8_t, x < y)                                                                                           \
    X(less_equal, uint8_t, x <= y)                                                                                    \
    X(greater, uint8_t, x > y)                                                                                        \
    X(greater_equal, uint8_t, x >= y)                                                                                 \
    X(equal, uint8_t, x == y)                                                                                         \
    X(not_equal, uint8_t, x != y)
