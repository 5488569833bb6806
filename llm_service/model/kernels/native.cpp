// What a CPU computes in bfloat16, widened to float32 in registers as it arrives from memory: products and sums are
// float32. In GCC's vector types, so that one source serves every width of vector the compiler targets.
//
// A row's bits depend on nothing but the row. So nothing is left to the compiler that changes a rounding: where a product
// and a sum round once, `fused` says so, and -ffp-contract=off keeps all others apart; every sum has one order, written
// out below, which is also the same for every width of vector. So processors with AVX2 and with AVX-512 agree.
//
// Legend: L lanes of a vector; M rows, I input and O output features of a linear map; S sequences, H query heads,
// G key-value heads, D head dim of attention.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

// L is the width of the target's registers: wider vectors are spilled to the stack.
#if defined(__AVX512F__)
#include <immintrin.h>
constexpr long L = 16;
constexpr int MOST_ROWS = 12;  // at once: two vectors of sums each, 24 of 32 registers
#elif defined(__FMA__)
#include <immintrin.h>
constexpr long L = 8;
constexpr int MOST_ROWS = 4;  // 8 of 16
#elif defined(__aarch64__)
#include <arm_neon.h>
constexpr long L = 4;
constexpr int MOST_ROWS = 8;  // 16 of 32
#else
constexpr long L = 4;
constexpr int MOST_ROWS = 4;  // 8 of 16
#endif
constexpr long PANEL = 2 * L;  // output features computed side by side
constexpr long PARTIAL = 16;  // sums of squares side by side: as many for every L, so that all add in the same order
constexpr long AHEAD = 16384;  // bytes of weights to prefetch: left to itself, hardware reaches 0.7 of the bandwidth
constexpr long ROWS_FOR_THREADS = 16;
constexpr long SPLIT = 128;  // tokens of a context in one softmax
constexpr int ABREAST = 8;  // of them scored side by side: sums that do not wait for each other
constexpr long ROWS_AT_ONCE = 64;  // of scores: so, to widen a split's keys and values is a tenth of the work on them

typedef float Floats __attribute__((vector_size(4 * L)));
typedef uint32_t Words __attribute__((vector_size(4 * L)));
typedef int32_t Ints __attribute__((vector_size(4 * L)));
typedef uint16_t Halves __attribute__((vector_size(2 * L)));

static inline Floats all(float value) { return value - Floats{}; }  // minus: -0 plus 0 were 0

// a * b + c, rounded once, in one instruction. Where the target has none, rounded twice, always: still one result.
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
  bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
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
      left[m] = fused(left_even, even, left[m]), right[m] = fused(right_even, even, right[m]);
      left[m] = fused(left_odd, odd, left[m]), right[m] = fused(right_odd, odd, right[m]);
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
    Floats squares[PARTIAL / L] = {};
    for (long i = 0; i < width; i += PARTIAL)
      for (long v = 0, at = i; v < PARTIAL / L; v++, at += L) {
        const Floats value = load(from + at, width - at);
        squares[v] = fused(value, value, squares[v]);
      }
    float sums[PARTIAL];
    memcpy(sums, squares, sizeof sums);
    for (long half = PARTIAL / 2; half > 0; half /= 2)  // 0 with 8, 1 with 9 ...; then 0 with 4 ...
      for (long i = 0; i < half; i++) sums[i] += sums[i + half];
    const float scale = 1.0f / std::sqrt(sums[0] / width + eps);
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

// Causal attention over pages (N, P, G, D). Lanes are rows of scores: every query head that shares keys, of every query.
//
// A context is cut into splits, each with a softmax of its own; they are folded in order, whoever computed them. So a row
// is the same to the bit whether it comes alone, as when decoding, or among others, as in a prompt.

struct Attention {
  const Bf16 *query, *keys, *values;  // query (T, H, D)
  Bf16* output;                       // (T, H, D)
  const int32_t* tables;              // (S, W): pages of each sequence
  const int64_t* query_counts;        // (S,), T in sum: each sequence's last tokens
  const int64_t* context_counts;      // (S,)
  long sequences, heads, groups, head_dim, page_size, width;
  float scaling;

  long padded_dim() const { return (head_dim + L - 1) / L * L; }
  long shared() const { return heads / groups; }
};

struct Rows {  // up to ROWS_AT_ONCE rows of one sequence and group
  long sequence, start, group, first, count;  // start: of the sequence's queries; rows are numbered query * shared + head

  long vectors() const { return (count + L - 1) / L; }
  long head_of(const Attention& a, long row) const { return group * a.shared() + (first + row) % a.shared(); }
  long query_of(const Attention& a, long row) const { return (first + row) / a.shared(); }
  long context_of(const Attention& a, long row) const {
    return a.context_counts[sequence] - a.query_counts[sequence] + query_of(a, row) + 1;
  }
  long place_of(const Attention& a, long row) const {
    return ((start + query_of(a, row)) * a.heads + head_of(a, row)) * a.head_dim;
  }
};

struct Softmax {  // of L rows, over what was folded into it
  float *largest, *total, *sums;  // (L,) of scores; (L,) of weights; (L, padded D) of values times weights

  Softmax(float* memory) : largest(memory), total(memory + L), sums(memory + 2 * L) {}
  static long size(long dim) { return (2 + dim) * L; }

  void clear(long dim) {
    store(largest, all(-INFINITY));
    std::fill(total, total + (1 + dim) * L, 0.0f);
  }

  void fold(const Softmax& next, long rows, long dim) {
    const Floats own = load(largest), other = load(next.largest), most = other > own ? other : own;
    const Floats keep = exponential(own - most), take = exponential(other - most);
    for (long row = 0; row < rows; row++)
      for (long d = row * dim; d < (row + 1) * dim; d += L)
        store(sums + d, fused(load(next.sums + d), take[row], load(sums + d) * keep[row]));
    store(total, fused(load(next.total), take, load(total) * keep));
    store(largest, most);
  }
};

template <int R>
static void add_values(long rows, const float (*weights)[L], const float* values, long count, float* sums, long dim) {
  if constexpr (R > 1)
    if (rows < R) return add_values<R - 1>(rows, weights, values, count, sums, dim);
  for (long d = 0; d < dim; d += L) {
    Floats sum[R] = {};
    for (long t = 0; t < count; t++) {
      const Floats value = load(values + t * dim + d);
#pragma GCC unroll 16
      for (int row = 0; row < R; row++) sum[row] = fused(value, weights[t][row], sum[row]);
    }
    for (int row = 0; row < R; row++) store(sums + row * dim + d, sum[row]);
  }
}

// One split for L rows: query (padded D, L), keys and values (SPLIT, padded D); `first` is the split's first token.
static void attend_split(const float* query, const float* keys, const float* values, Ints contexts, long rows, long first,
                         long count, long dim, const Softmax& result) {
  alignas(64) float weights[SPLIT][L];
  Floats largest = all(-INFINITY), total = {};
  for (long t = 0; t < count; t += ABREAST) {
    Floats score[ABREAST] = {};
    for (long d = 0; d < dim; d++)
#pragma GCC unroll 8
      for (int j = 0; j < ABREAST; j++) score[j] = fused(load(query + d * L), keys[(t + j) * dim + d], score[j]);
    for (int j = 0; j < ABREAST && t + j < count; j++) {
      const Floats seen = contexts > (int32_t)(first + t + j) ? score[j] : all(-INFINITY);
      largest = seen > largest ? seen : largest;
      store(weights[t + j], seen);
    }
  }
  const Floats base = largest == -INFINITY ? Floats{} : largest;  // rows that see nothing of this split
  for (long t = 0; t < count; t++) {
    const Floats weight = exponential(load(weights[t]) - base);
    store(weights[t], weight);
    total += weight;
  }
  add_values<L>(rows, weights, values, count, result.sums, dim);
  store(result.largest, largest), store(result.total, total);
}

// Some splits of some rows, into a softmax for each L of them, which lie one after the other.
static void attend_rows(const Attention& a, const Rows& rows, long first, long last, float* results) {
  const long dim = a.padded_dim(), vectors = rows.vectors();
  static thread_local std::vector<Floats> scratch;
  scratch.resize((vectors * L + 2 * SPLIT) * dim / L + Softmax::size(dim) / L);
  float *query = (float*)scratch.data(), *keys = query + vectors * L * dim, *values = keys + SPLIT * dim;
  std::fill(query, keys, 0.0f);
  const Softmax next(values + SPLIT * dim);
  Ints contexts[ROWS_AT_ONCE / L] = {};
  for (long v = 0; v < vectors; v++) Softmax(results + v * Softmax::size(dim)).clear(dim);
  for (long row = 0; row < rows.count; row++) {
    const Bf16* from = a.query + rows.place_of(a, row);
    for (long d = 0; d < a.head_dim; d++) query[(row / L * dim + d) * L + row % L] = widen(from[d]) * a.scaling;
    contexts[row / L][row % L] = rows.context_of(a, row);
  }
  const int32_t* table = a.tables + rows.sequence * a.width;
  for (long start = first; start < last; start += SPLIT) {
    const long count = std::min(SPLIT, last - start);
    long places[SPLIT];
    for (long t = 0; t < count; t++) {
      const long token = start + t, place = table[token / a.page_size] * a.page_size + token % a.page_size;
      places[t] = (place * a.groups + rows.group) * a.head_dim;
      for (long d = 0; d < a.head_dim; d += 32) {  // lines of both, before the first is waited for
        __builtin_prefetch(a.keys + places[t] + d);
        __builtin_prefetch(a.values + places[t] + d, 0, 1);
      }
    }
    for (long t = 0; t < count; t++)
      for (long d = 0; d < dim; d += L) {
        store(keys + t * dim + d, load(a.keys + places[t] + d, a.head_dim - d));
        store(values + t * dim + d, load(a.values + places[t] + d, a.head_dim - d));
      }
    for (long v = 0; v < vectors; v++) {
      const long own = std::min(L, rows.count - v * L);
      attend_split(query + v * L * dim, keys, values, contexts[v], own, start, count, dim, next);
      Softmax(results + v * Softmax::size(dim)).fold(next, own, dim);
    }
  }
}

static void finish(const Attention& a, const Rows& rows, float* results) {
  const long dim = a.padded_dim();
  for (long row = 0; row < rows.count; row++) {
    const Softmax result(results + row / L * Softmax::size(dim));
    Bf16* to = a.output + rows.place_of(a, row);
    for (long d = 0; d < a.head_dim; d += L)
      store(to + d, load(result.sums + row % L * dim + d) / result.total[row % L], a.head_dim - d);
  }
}

static void attend(const Attention& a) {
  struct Part {  // the splits from one token to another, for some rows
    Rows rows;
    long first, last;
    float* results;
  };
  std::vector<Part> parts;
  std::vector<long> starts;  // of each rows' parts
  for (long sequence = 0, start = 0; sequence < a.sequences; start += a.query_counts[sequence++])
    for (long group = 0; group < a.groups; group++) {
      const long count = a.query_counts[sequence] * a.shared();
      for (long first = 0; first < count; first += ROWS_AT_ONCE) {
        const Rows rows = {sequence, start, group, first, std::min(ROWS_AT_ONCE, count - first)};
        const long context = rows.context_of(a, rows.count - 1);
        const long tokens = a.query_counts[sequence] == 1 ? SPLIT : context;  // few rows: threads share their splits
        starts.push_back(parts.size());
        for (long token = 0; token < context; token += tokens)
          parts.push_back({rows, token, std::min(token + tokens, context), nullptr});
      }
    }
  const long rows_count = starts.size(), part_count = parts.size(), size = Softmax::size(a.padded_dim());
  starts.push_back(part_count);
  long vectors = 0;
  for (const Part& part : parts) vectors += part.rows.vectors();
  static thread_local std::vector<Floats> results;
  results.resize(vectors * size / L);
  float* free = (float*)results.data();
  for (Part& part : parts) part.results = free, free += part.rows.vectors() * size;
#pragma omp parallel
  {
#pragma omp for schedule(dynamic)
    for (long i = 0; i < part_count; i++)
      attend_rows(a, parts[i].rows, parts[i].first, parts[i].last, parts[i].results);
#pragma omp for schedule(static)
    for (long i = 0; i < rows_count; i++) {
      const Part& whole = parts[starts[i]];
      for (long j = starts[i] + 1; j < starts[i + 1]; j++)
        for (long v = 0; v < whole.rows.vectors(); v++)
          Softmax(whole.results + v * size).fold(Softmax(parts[j].results + v * size), L, a.padded_dim());
      finish(a, whole.rows, whole.results);
    }
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
                   const int64_t* query_counts, const int64_t* context_counts, long sequences, long heads, long groups,
                   long head_dim, long page_size, long width, float scaling) {
  attend({query, keys, values, output, tables, query_counts, context_counts, sequences, heads, groups, head_dim, page_size,
          width, scaling});
}
}
