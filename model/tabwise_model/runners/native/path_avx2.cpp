// AVX2: nearly every x86-64 processor since 2013.
#include <immintrin.h>

#include "paths.h"

#define LANES 8
#define INPUT_OFFSET 0
#define PAIRWISE
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

// A group's sums in 16 bits, of the first and of the last two of every four inputs. Of at
// most 64 inputs and weights of -8..7 they fit, and what passes 16 bits on the way comes
// back. Steps multiply them while the two are added in 32 bits.
typedef uint16_t Group __attribute__((vector_size(32)));

inline int32_t start_of_group(const int8_t* inputs, int count) {
  int starts[2] = {};
  for (int i = 0; i < count; ++i) starts[i % 4 / 2] -= NIBBLE_OFFSET * inputs[i];
  return int32_t(uint16_t(starts[0]) | uint32_t(starts[1]) << 16);
}

inline Group dot_group(Group sums, Input inputs, Ints nibbles) {
  return sums + (Group)_mm256_maddubs_epi16((__m256i)nibbles, inputs.values);
}

inline Ints add_group(Ints sums, Group group, Ints steps) {
  const __m256i twice = (__m256i)(steps | steps << 16);
  return sums + (Ints)_mm256_madd_epi16((__m256i)group, twice);
}

}  // namespace

#include "step.h"

void step_avx2(TabwiseModel& model, const Batch& batch) { Step(model, batch).run(); }

Softmax softmax_avx2(float* values, int count) {
  return softmax(values, count);
}
