// RMS norm: x (M, W) / sqrt(mean of squares + eps) * weight (W,).

#pragma once

#include "vectors.h"

constexpr long ROWS_FOR_THREADS = 16;  // fewer are normed before other threads have woken
constexpr long PARTIAL = 16;           // sums side by side: as many for every L, so that all targets add in one order

// Partial sum i adds the squares of elements i, i + PARTIAL, i + 2 PARTIAL ...; then halves are added to halves: 0 + 8,
// 1 + 9 ... 7 + 15, then 0 + 4 ... 3 + 7, and so on.
static inline float sum_of_squares(const Bf16* x, long width) {
  Floats partial[PARTIAL / L] = {};
  for (long i = 0; i < width; i += PARTIAL)
    for (long v = 0; v < PARTIAL / L; v++) {
      const Floats value = load(x + i + v * L, width - i - v * L);
      partial[v] = fused(value, value, partial[v]);
    }
  float sums[PARTIAL];
  memcpy(sums, partial, sizeof sums);
  for (long half = PARTIAL / 2; half > 0; half /= 2)
    for (long i = 0; i < half; i++) sums[i] += sums[i + half];
  return sums[0];
}

static void rms_norm(const Bf16* x, const Bf16* weight, Bf16* y, float eps, long rows, long width) {
  const auto norm = [=](long row) {
    const Bf16* from = x + row * width;
    const float scale = 1.0f / std::sqrt(sum_of_squares(from, width) / width + eps);
    for (long i = 0; i < width; i += L)
      store(y + row * width + i, load(from + i, width - i) * scale * load(weight + i, width - i), width - i);
  };
  if (rows < ROWS_FOR_THREADS) {  // not `parallel if`: libgomp ends its threads when a region wants fewer than it has
    for (long row = 0; row < rows; row++) norm(row);
    return;
  }
#pragma omp parallel for schedule(static)
  for (long row = 0; row < rows; row++) norm(row);
}
