// Causal attention over pages of keys and values (N, P, G, D).
//
// Lanes are rows of scores: every query head that shares keys, of every query. So nothing is summed across a vector here
// either. A context is cut into splits of SPLIT tokens, each with a softmax of its own; splits are folded in order,
// whichever thread computed them:
//
//   decoding, one query      every split is a part of its own, computed by any thread; folded 0, 1, 2 ... at the end
//   a prompt, many queries   ROWS_AT_ONCE rows are a part; its thread folds split 0, 1, 2 ... as it goes
//
// Both fold the same splits in the same order, so a row is the same to the bit alone and among others. A row that sees only
// the beginning of a part's context folds further splits of weight 0, which change nothing.

#pragma once

#include <vector>

#include "vectors.h"

constexpr long SPLIT = 128;  // tokens of a context in one softmax
constexpr int ABREAST = 8;   // of them scored side by side: sums that do not wait for each other
constexpr long ROWS_AT_ONCE = 64;  // of scores: so, to widen a split's keys and values is a tenth of the work on them

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

  // Brings both to the larger maximum, and adds. Nothing folded yet: `keep` is 0 and `take` 1. Nothing seen in `next`: the
  // other way round.
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

// sums (R, padded D) = weights (T, R) by values (T, padded D), by the instance that keeps exactly `rows` sums in registers.
// Each takes its tokens in order, for every R.
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

// One split of `count` tokens for L rows: query (padded D, L), keys and values (SPLIT, padded D); `first` is the split's
// first token, and row r sees the tokens before contexts[r]. Scores of tokens past `count`, up to ABREAST of them, are of
// whatever lies there, and dropped.
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
  const Floats base = largest == -INFINITY ? Floats{} : largest;  // a row that sees nothing here: weights of 0, not NaN
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
  starts.push_back(part_count);  // part j belongs to rows i where starts[i] <= j < starts[i + 1]
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
