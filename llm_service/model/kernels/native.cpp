// What a CPU computes in bfloat16, widened to float32 in registers as it arrives from memory: products and sums are
// float32. In GCC's vector types, so that one source serves every width of vector the compiler targets.
//
// A row's bits depend on nothing but the row. No compiler decides how anything is rounded: where a product and a sum round
// once, `fused` says so, and -ffp-contract=off keeps all others apart. Every sum has one order, whatever rows are computed
// beside it and however wide a vector is, so targets that have fused products agree with one another too.

#include "attention.h"
#include "linear.h"
#include "norm.h"

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
