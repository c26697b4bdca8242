/* Elementwise operations: the value of an element as an expression in x and y, for each row of compiler/ir/table.py
   whose `native` is "vector" or "scalar". The table has the type of the result. */

#define VALUE_add x + y
#define VALUE_subtract x - y
#define VALUE_multiply x * y
#define VALUE_divide x / y
#define VALUE_maximum x > y || x != x ? x : y
#define VALUE_minimum x < y || x != x ? x : y
#define VALUE_power LIBM(pow)(x, y)
#define VALUE_copy x
#define VALUE_negative -x
#define VALUE_sqrt LIBM(sqrt)(x)
#define VALUE_relu x > 0 || x != x ? x : 0
#define VALUE_exp NAME(exp_gradual)(x)
#define VALUE_tanh NAME(tanh)(x)
#define VALUE_sigmoid NAME(sigmoid)(x)
#define VALUE_sigmoid_slope x / (1 + NAME(exp)(y))
#define VALUE_sigmoid_tail NAME(sigmoid_tail)(x)
#define VALUE_tail_sigmoid x < 0 ? 1 + x : x
#define VALUE_tail_slope (x < 0 ? -x : x) - x * x
#define VALUE_softplus NAME(logaddexp)(x, 0)
#define VALUE_log LIBM(log)(x)
#define VALUE_sin LIBM(sin)(x)
#define VALUE_cos LIBM(cos)(x)
#define VALUE_tan LIBM(tan)(x)
#define VALUE_arcsin LIBM(asin)(x)
#define VALUE_arccos LIBM(acos)(x)
#define VALUE_arctan LIBM(atan)(x)
#define VALUE_sinh LIBM(sinh)(x)
#define VALUE_cosh LIBM(cosh)(x)
#define VALUE_arcsinh LIBM(asinh)(x)
#define VALUE_arccosh LIBM(acosh)(x)
#define VALUE_arctanh LIBM(atanh)(x)
#define VALUE_log1p LIBM(log1p)(x)
#define VALUE_expm1 LIBM(expm1)(x)
#define VALUE_log2 LIBM(log2)(x)
#define VALUE_log10 LIBM(log10)(x)
#define VALUE_exp2 LIBM(exp2)(x)
#define VALUE_cbrt LIBM(cbrt)(x)
#define VALUE_floor LIBM(floor)(x)
#define VALUE_ceil LIBM(ceil)(x)
#define VALUE_trunc LIBM(trunc)(x)
#define VALUE_rint LIBM(rint)(x)
#define VALUE_sign NAME(sign)(x)
#define VALUE_arctan2 LIBM(atan2)(x, y)
#define VALUE_hypot LIBM(hypot)(x, y)
#define VALUE_fmod LIBM(fmod)(x, y)
#define VALUE_logaddexp NAME(logaddexp)(x, y)
#define VALUE_remainder NAME(remainder)(x, y)
#define VALUE_floor_divide NAME(floor_divide)(x, y)
#define VALUE_less x < y
#define VALUE_less_equal x <= y
#define VALUE_greater x > y
#define VALUE_greater_equal x >= y
#define VALUE_equal x == y
#define VALUE_not_equal x != y
