// A linear map: x (M, I) by a weight (O, I) -> (M, O).
//
// The weight lies in panels of PANEL outputs, padded with zeros: (panels, I / 2, PANEL, 2). So a lane is an output: an
// input is broadcast to all lanes, and no sum is taken across a vector. Two inputs of one output are one word, which
// widens to floats by a shift and a mask.

#pragma once

#include <vector>

#include "vectors.h"

constexpr long PANEL = 2 * L;  // output features computed side by side
constexpr int MOST_ROWS = REGISTERS == 32 ? 12 : 4;  // at once, with two vectors of sums each: 24 of 32 registers, or 8 of 16
constexpr long AHEAD = 16384;  // bytes of weights to prefetch: left to itself, hardware reaches 0.7 of the bandwidth

static inline void load_pairs(const Bf16* from, Floats& even, Floats& odd) {  // a pair is one word
  Words pairs;
  memcpy(&pairs, from, sizeof pairs);
  even = (Floats)(pairs << 16), odd = (Floats)(pairs & 0xffff0000u);
}

// x (M, I) by one panel -> sums (M, PANEL). Each sum takes its inputs in order, one fused product after the other, for
// every M: so a row's sums are the same whichever instance computes them.
template <int M>
static void multiply_panel(const Bf16* panel, const float* x, float* sums, long inputs) {
  Floats left[M] = {}, right[M] = {};
  for (long i = 0; i < inputs; i += 2, panel += 2 * PANEL) {
    for (long line = 0; line < 2 * PANEL * 2; line += 64) __builtin_prefetch((const char*)panel + AHEAD + line, 0, 1);
    Floats left_even, left_odd, right_even, right_odd;
    load_pairs(panel, left_even, left_odd);
    load_pairs(panel + PANEL, right_even, right_odd);
#pragma GCC unroll 12
    for (int m = 0; m < M; m++) {
      const float even = x[m * inputs + i], odd = x[m * inputs + i + 1];
      left[m] = fused(left_even, even, left[m]), right[m] = fused(right_even, even, right[m]);
      left[m] = fused(left_odd, odd, left[m]), right[m] = fused(right_odd, odd, right[m]);
    }
  }
  for (int m = 0; m < M; m++) store(sums + m * PANEL, left[m]), store(sums + m * PANEL + L, right[m]);
}

// By the instance that keeps exactly `rows` rows of sums in registers: M, M - 1 ... 1.
template <int M>
static void multiply_rows(long rows, const Bf16* panel, const float* x, float* sums, long inputs) {
  if constexpr (M > 1)
    if (rows < M) return multiply_rows<M - 1>(rows, panel, x, sums, inputs);
  multiply_panel<M>(panel, x, sums, inputs);
}

struct Then {  // what becomes of a sum: + bias (O,), SiLU, * factor (M, O), + term (M, O), where given
  const Bf16 *bias, *factor, *term;
  bool silu;

  Floats operator()(Floats value, long at, long output, long count) const {
    if (bias) value += load(bias + output, count);
    if (silu) value /= 1.0f + exponential(-value);
    if (factor) value *= load(factor + at, count);
    if (term) value += load(term + at, count);
    return value;
  }
};

static void linear(const Bf16* weight, const Bf16* x, Bf16* y, const Then& then, long rows, long inputs, long outputs) {
  static thread_local std::vector<float> widened;
  widened.resize(rows * inputs);
  float* wide = widened.data();
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (long row = 0; row < rows; row++)
      for (long i = row * inputs; i < (row + 1) * inputs; i++) wide[i] = widen(x[i]);
#pragma omp for schedule(static)
    for (long start = 0; start < outputs; start += PANEL) {
      for (long row = 0; row < rows; row += MOST_ROWS) {
        const long count = std::min<long>(rows - row, MOST_ROWS);
        alignas(64) float sums[MOST_ROWS * PANEL];
        multiply_rows<MOST_ROWS>(count, weight + start * inputs, wide + row * inputs, sums, inputs);
        for (long m = 0; m < count; m++)
          for (long output = start; output < std::min(start + PANEL, outputs); output += L) {
            const long at = (row + m) * outputs + output, left = outputs - output;
            store(y + at, then(load(sums + m * PANEL + output - start), at, output, left), left);
          }
      }
    }
  }
}
