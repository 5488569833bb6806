// Vectors of L floats in registers, bfloat16 in memory, and the arithmetic that C++ has no operator for.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

// L is the width of the target's registers: wider vectors are spilled to the stack.
#if defined(__AVX512F__)
#include <immintrin.h>
constexpr long L = 16;
constexpr int REGISTERS = 32;
#elif defined(__FMA__)
#include <immintrin.h>
constexpr long L = 8;
constexpr int REGISTERS = 16;
#elif defined(__aarch64__)
#include <arm_neon.h>
constexpr long L = 4;
constexpr int REGISTERS = 32;
#else
constexpr long L = 4;
constexpr int REGISTERS = 16;
#endif

typedef float Floats __attribute__((vector_size(4 * L)));
typedef uint32_t Words __attribute__((vector_size(4 * L)));
typedef int32_t Ints __attribute__((vector_size(4 * L)));
typedef uint16_t Halves __attribute__((vector_size(2 * L)));

static inline Floats all(float value) { return value - Floats{}; }  // minus: -0 plus 0 were 0

// a * b + c, rounded once, in one instruction. On a target that has none, rounded twice: a row's bits still depend on
// nothing else, but differ from other targets'.
static inline Floats fused(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

static inline Floats fused(Floats a, float b, Floats c) { return fused(a, all(b), c); }

struct Bf16 {
  uint16_t bits;
};

static inline Floats load(const float* from) {
  Floats values;
  memcpy(&values, from, sizeof values);
  return values;
}

static inline Floats load(const Bf16* from) {
  Halves halves;
  memcpy(&halves, from, sizeof halves);
  return (Floats)(__builtin_convertvector(halves, Words) << 16);
}

static inline void store(float* to, Floats values) { memcpy(to, &values, sizeof values); }

static inline void store(Bf16* to, Floats values) {  // to nearest, ties to even; NaN stays NaN
  Words bits = (Words)values;
  bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // over half carries; half itself only where the last bit is odd
  Halves halves = __builtin_convertvector(values == values ? bits : bits - bits + 0x7fc0, Halves);
  memcpy(to, &halves, sizeof halves);
}

static inline Floats load(const Bf16* from, long count) {  // zeros past `count`, which may be negative
  if (count >= L) return load(from);
  Bf16 own[L] = {};
  memcpy(own, from, std::max(count, 0L) * sizeof(Bf16));
  return load(own);
}

static inline void store(Bf16* to, Floats values, long count) {
  if (count >= L) return store(to, values);
  Bf16 own[L];
  store(own, values);
  memcpy(to, own, count * sizeof(Bf16));
}

static inline float widen(Bf16 value) {
  uint32_t bits = (uint32_t)value.bits << 16;
  float wide;
  memcpy(&wide, &bits, sizeof wide);
  return wide;
}

// e to the x, relative error 2e-7: 2 to the nearest whole power, by a shift into the exponent, times a polynomial of the
// rest, which is within log(2) / 2. Below -87 the power would not be normal: 0. Above 88: infinity. NaN stays NaN.
static inline Floats exponential(Floats of) {
  Floats x = of < -87.0f ? all(-87.0f) : of;
  x = x > 88.0f ? all(88.0f) : x;
  const Ints power = __builtin_convertvector(fused(x, 1.44269504f, x < 0 ? all(-0.5f) : all(0.5f)), Ints);
  const Floats whole = __builtin_convertvector(power, Floats);
  Floats rest = fused(whole, -0.693359375f, x);  // log(2) in two parts: the first has few bits, so this is exact
  rest = fused(whole, 2.12194440e-4f, rest);
  Floats sum = fused(rest, 1.9875691500e-4f, all(1.3981999507e-3f));
  sum = fused(sum, rest, all(8.3334519073e-3f));
  sum = fused(sum, rest, all(4.1665795894e-2f));
  sum = fused(sum, rest, all(1.6666665459e-1f));
  sum = fused(sum, rest, all(5.0000001201e-1f));
  sum = fused(sum, rest * rest, rest) + 1.0f;
  const Floats result = sum * (Floats)((power + 127) << 23);
  return of > 88.0f ? all(INFINITY) : of < -87.0f ? Floats{} : result;
}
