"""Functions of math.h written out in C99, for programs without it: float32, to about its last two places."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Function:
    """Its text, where M_ stands for the program's name, and what it calls."""

    text: str
    uses: tuple[str, ...] = ()


FUNCTIONS = {
    "floorf": Function("""static inline float M_floorf(float x)
{
    if (!(x > -8388608.0f && x < 8388608.0f)) return x;  /* whole already, or NaN */
    const float whole = (float)(int32_t)x;
    return whole > x ? whole - 1.0f : whole;
}"""),
    "rintf": Function(
        """static inline float M_rintf(float x)
{
    if (!(x > -8388608.0f && x < 8388608.0f)) return x;
    const float low = M_floorf(x), rest = x - low;
    if (rest != 0.5f) return rest < 0.5f ? low : low + 1.0f;
    return (int32_t)low % 2 == 0 ? low : low + 1.0f;
}""",
        ("floorf",),
    ),
    "sqrtf": Function("""static inline float M_sqrtf(float x)
{
    if (!(x > 0.0f)) return x == 0.0f ? x : 0.0f / 0.0f;
    if (x > 3.402823466e+38f) return x;
    float scale = 1.0f;
    while (x > 4.0f) { x *= 0.25f; scale *= 2.0f; }
    while (x < 1.0f) { x *= 4.0f; scale *= 0.5f; }
    float y = 0.5f + 0.5f * x;  /* Newton, from above */
    for (int i = 0; i < 4; i++) y = 0.5f * (y + x / y);
    return y * scale;
}"""),
    "expf": Function(
        """static inline float M_expf(float x)
{
    if (x != x) return x;
    if (x > 88.7228f) return 3.402823466e+38f * 2.0f;
    if (x < -103.9f) return 0.0f;
    /* 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] */
    const float n = M_rintf(x * 1.44269504f), r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    const int32_t half = (int32_t)n / 2, rest = (int32_t)n - half;  /* in two factors, so that neither overflows */
    union { int32_t bits; float value; } a, b;
    a.bits = (half + 127) * 8388608;
    b.bits = (rest + 127) * 8388608;
    return y * a.value * b.value;
}""",
        ("rintf",),
    ),
    "logf": Function("""static inline float M_logf(float x)
{
    if (!(x > 0.0f)) return x == 0.0f ? -1.0f / (x * x) : 0.0f / 0.0f;
    if (x > 3.402823466e+38f) return x;
    float e = 0.0f;
    if (x < 1.17549435e-38f) { x *= 8388608.0f; e = -23.0f; }
    union { int32_t bits; float value; } m;
    m.value = x;
    e += (float)(m.bits / 8388608 - 126);
    m.bits = m.bits % 8388608 + 1056964608;  /* in [1/2, 1) */
    float r = m.value;
    if (r < 0.70710678f) { r += r; e -= 1.0f; }
    r -= 1.0f;
    float y = 7.0376836292e-2f;
    y = y * r - 1.1514610310e-1f;
    y = y * r + 1.1676998740e-1f;
    y = y * r - 1.2420140846e-1f;
    y = y * r + 1.4249322787e-1f;
    y = y * r - 1.6668057665e-1f;
    y = y * r + 2.0000714765e-1f;
    y = y * r - 2.4999993993e-1f;
    y = y * r + 3.3333331174e-1f;
    y = y * r * r * r - e * 2.12194440e-4f - 0.5f * r * r;
    return r + y + e * 0.693359375f;
}"""),
    "tanhf": Function(
        """static inline float M_tanhf(float x)
{
    const float size = x < 0.0f ? -x : x, s = x * x;
    if (size < 0.625f) {  /* where 1 - 2 / (e^2x + 1) cancels */
        float y = -5.70498872745e-3f;
        y = y * s + 2.06390887954e-2f;
        y = y * s - 5.37397155531e-2f;
        y = y * s + 1.33314422036e-1f;
        y = y * s - 3.33332819422e-1f;
        return y * s * x + x;
    }
    if (size > 10.0f) return x < 0.0f ? -1.0f : 1.0f;
    const float y = 1.0f - 2.0f / (M_expf(2.0f * size) + 1.0f);
    return x < 0.0f ? -y : y;
}""",
        ("expf",),
    ),
}
