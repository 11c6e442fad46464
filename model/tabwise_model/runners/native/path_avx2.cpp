// AVX2: nearly every x86-64 processor since 2013.
#include <immintrin.h>

#include "paths.h"

#define LANES 8
#define INPUT_OFFSET 0
#include "vectors.h"

namespace {

constexpr int ACCUMULATORS = 8;
constexpr int TILE_ROWS = 4;

struct Input {
  __m256i values, magnitudes;
};

inline Input spread(const int8_t* four) {
  int32_t bits;
  memcpy(&bits, four, sizeof bits);
  const __m256i values = _mm256_set1_epi32(bits);
  return {values, _mm256_abs_epi8(values)};
}

// |a| x (w with a's sign): two products of at most 127 x 127 never pass 16 bits, so the
// saturating instruction is exact.
inline Ints dot(Ints sums, Input inputs, Ints weights) {
  const __m256i w = _mm256_sign_epi8((__m256i)weights, inputs.values);
  const __m256i pairs = _mm256_maddubs_epi16(inputs.magnitudes, w);
  return sums + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

}  // namespace

#include "step.h"

void step_avx2(TabwiseModel& model, const Batch& batch) { Step(model, batch).run(); }

Softmax softmax_avx2(float* values, int count) {
  return softmax(values, count);
}
