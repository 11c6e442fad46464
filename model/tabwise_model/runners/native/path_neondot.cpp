// 64-bit ARM with dot products: Apple's M series, servers and phones since 2018.
#include <arm_neon.h>

#include "paths.h"

#define LANES 4
#define INPUT_OFFSET 0
#include "vectors.h"

namespace {

constexpr int ACCUMULATORS = 24;
constexpr int TILE_ROWS = 6;

using Input = int8x16_t;

inline Input spread(const int8_t* four) {
  int32_t bits;
  memcpy(&bits, four, sizeof bits);
  return vreinterpretq_s8_s32(vdupq_n_s32(bits));
}

inline Ints dot(Ints sums, Input inputs, Ints weights) {
  return (Ints)vdotq_s32((int32x4_t)sums, (int8x16_t)weights, inputs);
}

}  // namespace

#include "step.h"

void step_neondot(TabwiseModel& model, const Batch& batch) { Step(model, batch).run(); }

Softmax softmax_neondot(float* values, int count) {
  return softmax(values, count);
}
