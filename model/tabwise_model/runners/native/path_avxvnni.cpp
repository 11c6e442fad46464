// AVX-VNNI: Intel's desktop and laptop processors since 2021, which have no AVX-512.
#include <immintrin.h>

#include "paths.h"

#define LANES 8
#define INPUT_OFFSET 0x80
#include "vectors.h"

namespace {

constexpr int ACCUMULATORS = 12;
constexpr int TILE_ROWS = 6;

using Input = __m256i;

inline Input spread(const int8_t* four) {
  int32_t bits;
  memcpy(&bits, four, sizeof bits);
  return _mm256_set1_epi32(bits);
}

inline Ints dot(Ints sums, Input inputs, Ints weights) {
  return (Ints)_mm256_dpbusd_avx_epi32((__m256i)sums, inputs, (__m256i)weights);
}

}  // namespace

#include "step.h"

void step_avxvnni(TabwiseModel& model, const Batch& batch) { Step(model, batch).run(); }

Softmax softmax_avxvnni(float* values, int count) {
  return softmax(values, count);
}
