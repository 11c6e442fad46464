// Plain loops: any processor, and what the other paths are compared with.
#include "paths.h"

#define LANES 4
#define INPUT_OFFSET 0
#include "vectors.h"

namespace {

constexpr int ACCUMULATORS = 8;
constexpr int TILE_ROWS = 2;

using Input = const int8_t*;

inline Input spread(const int8_t* four) { return four; }

inline Ints dot(Ints sums, Input inputs, Ints weights) {
  int8_t w[LANES * 4];
  memcpy(w, &weights, sizeof w);
  for (int lane = 0; lane < LANES; ++lane)
    for (int i = 0; i < 4; ++i) sums[lane] += int(inputs[i]) * w[lane * 4 + i];
  return sums;
}

}  // namespace

#include "step.h"

void step_plain(TabwiseModel& model, const Batch& batch) { Step(model, batch).run(); }
