// AVX-512 with VNNI: Intel servers since 2019 and laptops of 2019-2021, AMD since Zen 4.
#include <immintrin.h>

#include "paths.h"

#define LANES 16
#define INPUT_OFFSET 0x80
#include "vectors.h"

namespace {

constexpr int ACCUMULATORS = 24;
constexpr int TILE_ROWS = 6;

using Input = __m512i;

inline Input spread(const int8_t* four) {
  int32_t bits;
  memcpy(&bits, four, sizeof bits);
  return _mm512_set1_epi32(bits);
}

inline Ints dot(Ints sums, Input inputs, Ints weights) {
  return (Ints)_mm512_dpbusd_epi32((__m512i)sums, inputs, (__m512i)weights);
}

}  // namespace

#include "step.h"

void step_avx512vnni(TabwiseModel& model, const Batch& batch) {
  Step(model, batch).run();
}

Softmax softmax_avx512vnni(float* values, int count) {
  return softmax(values, count);
}
