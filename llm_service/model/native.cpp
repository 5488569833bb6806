// What a CPU computes in bfloat16, widened to float32 in registers as it arrives from memory: products and sums are
// float32. In GCC's vector types, so that one source serves every width of vector the compiler targets.
//
// Legend: L lanes of a vector; M rows, I input and O output features of a linear map; S sequences, H query heads,
// G key-value heads, D head dim of attention.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef __AVX512F__
constexpr long L = 16;
constexpr int MOST_ROWS = 12;  // at once: two vectors of sums each, 24 of 32 registers
#else
constexpr long L = 8;
constexpr int MOST_ROWS = 4;  // 8 of 16
#endif
constexpr long PANEL = 2 * L;  // output features computed side by side
constexpr long AHEAD = 16384;  // bytes of weights to prefetch: left to itself, hardware reaches 0.7 of the bandwidth
constexpr long ROWS_FOR_THREADS = 16;
constexpr long SPLIT = 128;    // tokens of a context that one thread attends to at a time

typedef float Floats __attribute__((vector_size(4 * L)));
typedef uint32_t Words __attribute__((vector_size(4 * L)));
typedef int32_t Ints __attribute__((vector_size(4 * L)));
typedef uint16_t Halves __attribute__((vector_size(2 * L)));

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
  bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  Halves halves = __builtin_convertvector(values == values ? bits : bits - bits + 0x7fc0, Halves);
  memcpy(to, &halves, sizeof halves);
}

static inline Floats load(const Bf16* from, long count) {  // zeros past `count`
  if (count >= L) return load(from);
  Bf16 own[L] = {};
  memcpy(own, from, count * sizeof(Bf16));
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

static inline Floats exponential(Floats of) {  // relative error 2e-7; below -87 it is 0 in all but name
  Floats x = of < -87.0f ? Floats{} - 87.0f : of;
  x = x > 88.0f ? Floats{} + 88.0f : x;
  Floats scaled = x * 1.44269504f;
  Ints power = __builtin_convertvector(scaled + (scaled < 0 ? Floats{} - 0.5f : Floats{} + 0.5f), Ints);
  Floats whole = __builtin_convertvector(power, Floats);
  Floats rest = x - whole * 0.693359375f - whole * -2.12194440e-4f;
  Floats sum = rest * 1.9875691500e-4f + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  sum = sum * rest * rest + rest + 1.0f;
  return of > 88.0f ? Floats{} + INFINITY : sum * (Floats)((power + 127) << 23);
}

// A linear map. Its weight lies in panels of PANEL outputs, padded with zeros: (panels, I / 2, PANEL, 2).

static inline void load_pairs(const Bf16* from, Floats& even, Floats& odd) {  // a pair is one word
  Words pairs;
  memcpy(&pairs, from, sizeof pairs);
  even = (Floats)(pairs << 16), odd = (Floats)(pairs & 0xffff0000u);
}

template <int M>
static void multiply_panel(const Bf16* panel, const float* x, float* sums, long inputs) {  // x (M, I) -> (M, PANEL)
  Floats left[M] = {}, right[M] = {};
  for (long i = 0; i < inputs; i += 2, panel += 2 * PANEL) {
    for (long line = 0; line < 2 * PANEL * 2; line += 64) __builtin_prefetch((const char*)panel + AHEAD + line, 0, 1);
    Floats left_even, left_odd, right_even, right_odd;
    load_pairs(panel, left_even, left_odd);
    load_pairs(panel + PANEL, right_even, right_odd);
#pragma GCC unroll 12
    for (int m = 0; m < M; m++) {
      const float even = x[m * inputs + i], odd = x[m * inputs + i + 1];
      left[m] += left_even * even, right[m] += right_even * even;
      left[m] += left_odd * odd, right[m] += right_odd * odd;
    }
  }
  for (int m = 0; m < M; m++) store(sums + m * PANEL, left[m]), store(sums + m * PANEL + L, right[m]);
}

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

static void rms_norm(const Bf16* x, const Bf16* weight, Bf16* y, float eps, long rows, long width) {
  const auto norm = [=](long row) {
    const Bf16* from = x + row * width;
    Floats squares = {};
    for (long i = 0; i < width; i += L) squares += load(from + i, width - i) * load(from + i, width - i);
    float sum = 0;
    for (long lane = 0; lane < L; lane++) sum += squares[lane];
    const float scale = 1.0f / std::sqrt(sum / width + eps);
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

// Attention of one token each of several sequences, over pages (N, P, G, D). Query heads that share keys go together, one
// in each lane. A context is cut into splits, which threads share; their results are joined by their largest scores.

struct Attention {
  const Bf16 *query, *keys, *values;  // query (S, H, D)
  Bf16* output;                       // (S, H, D)
  const int32_t* tables;              // (S, W): pages of each sequence
  const int64_t* counts;              // (S,): tokens of its context
  long sequences, heads, groups, head_dim, page_size, width;
  float scaling;

  long padded_dim() const { return (head_dim + L - 1) / L * L; }
};

struct Split {  // up to L heads of one group of one sequence, over up to SPLIT tokens
  long sequence, group, head, heads, first, last;
  float* sums;  // (L, padded D), then of each lane the largest score and the sum of weights
};

template <int H>
static void add_values(long heads, const float (*weights)[L], const float* values, long count, float* sums, long dim) {
  if constexpr (H > 1)
    if (heads < H) return add_values<H - 1>(heads, weights, values, count, sums, dim);
  for (long d = 0; d < dim; d += L) {
    Floats sum[H] = {};
    for (long t = 0; t < count; t++) {
      const Floats value = load(values + t * dim + d);
#pragma GCC unroll 16
      for (int head = 0; head < H; head++) sum[head] += value * weights[t][head];
    }
    for (int head = 0; head < H; head++) store(sums + head * dim + d, sum[head]);
  }
}

static void attend_split(const Attention& a, const Split& split) {
  const long dim = a.padded_dim(), count = split.last - split.first;
  static thread_local std::vector<Floats> scratch;
  scratch.assign(dim + SPLIT * dim / L, Floats{});
  float *query = (float*)scratch.data(), *rows = query + dim * L;  // (padded D, L); (SPLIT, padded D): keys, then values
  alignas(64) float weights[SPLIT][L];
  const Bf16* own_query = a.query + (split.sequence * a.heads + split.head) * a.head_dim;
  for (long lane = 0; lane < split.heads; lane++)
    for (long d = 0; d < a.head_dim; d++) query[d * L + lane] = widen(own_query[lane * a.head_dim + d]) * a.scaling;
  long places[SPLIT];
  const int32_t* table = a.tables + split.sequence * a.width;
  for (long t = 0; t < count; t++) {
    const long token = split.first + t, place = table[token / a.page_size] * a.page_size + token % a.page_size;
    places[t] = (place * a.groups + split.group) * a.head_dim;
    for (long d = 0; d < a.head_dim; d += 32) {
      __builtin_prefetch(a.keys + places[t] + d);
      __builtin_prefetch(a.values + places[t] + d, 0, 1);
    }
  }
  const auto widen_rows = [&](const Bf16* stored) {
    for (long t = 0; t < count; t++)
      for (long d = 0; d < dim; d += L) store(rows + t * dim + d, load(stored + places[t] + d, a.head_dim - d));
  };
  widen_rows(a.keys);
  Floats largest = Floats{} - INFINITY, total = {};
  for (long t = 0; t < count; t += 4) {
    Floats score[4] = {};
    for (long d = 0; d < dim; d++)
      for (int j = 0; j < 4; j++) score[j] += load(query + d * L) * rows[(t + j) * dim + d];
    for (int j = 0; j < 4 && t + j < count; j++) {
      largest = score[j] > largest ? score[j] : largest;
      store(weights[t + j], score[j]);
    }
  }
  for (long t = 0; t < count; t++) {
    const Floats weight = exponential(load(weights[t]) - largest);
    store(weights[t], weight);
    total += weight;
  }
  widen_rows(a.values);
  add_values<L>(split.heads, weights, rows, count, split.sums, dim);
  store(split.sums + L * dim, largest), store(split.sums + L * dim + L, total);
}

static void join_splits(const Attention& a, const Split* splits, long count) {  // all of the same heads
  const long dim = a.padded_dim();
  std::vector<float> shares(count);
  for (long lane = 0; lane < splits->heads; lane++) {
    float largest = -INFINITY, total = 0;
    for (long s = 0; s < count; s++) largest = std::max(largest, splits[s].sums[L * dim + lane]);
    for (long s = 0; s < count; s++) {
      shares[s] = std::exp(splits[s].sums[L * dim + lane] - largest);
      total += shares[s] * splits[s].sums[L * dim + L + lane];
    }
    Bf16* to = a.output + (splits->sequence * a.heads + splits->head + lane) * a.head_dim;
    for (long d = 0; d < a.head_dim; d += L) {
      Floats sum = {};
      for (long s = 0; s < count; s++) sum += load(splits[s].sums + lane * dim + d) * (shares[s] / total);
      store(to + d, sum, a.head_dim - d);
    }
  }
}

static void attend(const Attention& a) {
  const long shared = a.heads / a.groups, floats = L * a.padded_dim() + 2 * L;
  std::vector<Split> splits;
  std::vector<long> starts;  // of the splits to be joined
  for (long sequence = 0; sequence < a.sequences; sequence++)
    for (long head = 0, heads; head < a.heads; head += heads) {
      heads = std::min(L, shared - head % shared);
      starts.push_back(splits.size());
      for (long first = 0, count = a.counts[sequence]; first < count; first += SPLIT)
        splits.push_back({sequence, head / shared, head, heads, first, std::min(first + SPLIT, count), nullptr});
    }
  const long joined = starts.size(), split_count = splits.size();
  starts.push_back(split_count);
  static thread_local std::vector<float> results;
  results.resize(split_count * floats);
  for (long i = 0; i < split_count; i++) splits[i].sums = results.data() + i * floats;
#pragma omp parallel
  {
#pragma omp for schedule(dynamic)
    for (long i = 0; i < split_count; i++) attend_split(a, splits[i]);
#pragma omp for schedule(static)
    for (long i = 0; i < joined; i++) join_splits(a, &splits[starts[i]], starts[i + 1] - starts[i]);
  }
}

extern "C" {
long native_panel() { return PANEL; }

void native_linear(const Bf16* weight, const Bf16* x, Bf16* y, const Bf16* bias, const Bf16* factor, const Bf16* term,
                   int silu, long rows, long inputs, long outputs) {
  linear(weight, x, y, {bias, factor, term, silu != 0}, rows, inputs, outputs);
}

void native_rms_norm(const Bf16* x, const Bf16* weight, Bf16* y, float eps, long rows, long width) {
  rms_norm(x, weight, y, eps, rows, width);
}

void native_attend(const Bf16* query, const Bf16* keys, const Bf16* values, Bf16* output, const int32_t* tables,
                   const int64_t* counts, long sequences, long heads, long groups, long head_dim, long page_size, long width,
                   float scaling) {
  attend({query, keys, values, output, tables, counts, sequences, heads, groups, head_dim, page_size, width, scaling});
}
}
