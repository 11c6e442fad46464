// Attention of one query row over the keys 0..position of its slot, for the query heads
// that share a key head. Lanes are tokens while scoring and channels while mixing, so
// that no sum crosses lanes: each is a plain sum in order of channels, or of tokens.
#pragma once

#include "rows.h"

namespace {

constexpr int CHAINS = 4;  // independent sums that hide an addition's latency

constexpr int blocks_at_once(int heads) {
  return heads * PARTS >= CHAINS ? 1 : CHAINS / (heads * PARTS);
}

struct Queries {
  const float* heads;  // (HEADS, head_stride), rotated and scaled
  float* mixed;        // (HEADS, head_stride)
  float* weights;      // (HEADS, slot_tokens)
};

template <int HEADS, int COUNT>
inline void score_blocks(const TabwiseShape& shape, const HeadCache& cache,
                         const Queries& q, int block) {
  const size_t a_block = size_t(shape.head_size) * BLOCK;
  const float* keys = cache.keys + block * a_block;
  Floats sums[HEADS][COUNT * PARTS] = {};
  for (int d = 0; d < shape.head_size; ++d)
    for (int v = 0; v < COUNT * PARTS; ++v) {
      const Floats key =
          load<Floats>(keys + v / PARTS * a_block + d * BLOCK + v % PARTS * LANES);
      for (int h = 0; h < HEADS; ++h)
        sums[h][v] += key * q.heads[h * shape.head_stride + d];
    }
  for (int h = 0; h < HEADS; ++h)
    for (int v = 0; v < COUNT * PARTS; ++v)
      store(q.weights + size_t(h) * shape.slot_tokens + block * BLOCK + v * LANES,
            sums[h][v]);
}

template <int HEADS>
inline void score(const TabwiseShape& shape, const HeadCache& cache, const Queries& q,
                  int keys) {
  constexpr int COUNT = blocks_at_once(HEADS);
  const int blocks = (keys + BLOCK - 1) / BLOCK;
  int block = 0;
  for (; block + COUNT <= blocks; block += COUNT)
    score_blocks<HEADS, COUNT>(shape, cache, q, block);
  for (; block < blocks; ++block) score_blocks<HEADS, 1>(shape, cache, q, block);
}

// Scores of `keys` keys become e^(score - largest); returns the inverse of their sum.
inline float soften(float* scores, int keys) {
  const int padded = (keys + BLOCK - 1) / BLOCK * BLOCK;
  for (int t = keys; t < padded; ++t) scores[t] = scores[0];  // what lay there: no key
  Lanes top, sums;
  for (int p = 0; p < PARTS; ++p) top.parts[p] = load<Floats>(scores + p * LANES);
  for (int t = BLOCK; t < padded; t += BLOCK)
    for (int p = 0; p < PARTS; ++p)
      top.parts[p] = larger(top.parts[p], load<Floats>(scores + t + p * LANES));
  const float largest = top.largest();
  for (int t = 0; t < padded; t += LANES)
    store(scores + t, exponential(load<Floats>(scores + t) - largest));
  for (int t = keys; t < padded; ++t) scores[t] = 0.0f;
  for (int t = 0; t < padded; t += BLOCK)
    for (int p = 0; p < PARTS; ++p)
      sums.parts[p] += load<Floats>(scores + t + p * LANES);
  return 1.0f / sums.sum();
}

template <int HEADS, int COUNT>
inline void mix_blocks(const TabwiseShape& shape, const HeadCache& cache,
                       const Queries& q, int block, int keys, const float* inverses) {
  const size_t run = size_t(shape.slot_tokens) * BLOCK;
  const float* values = cache.values + block * run;
  Floats sums[HEADS][COUNT * PARTS] = {};
  for (int t = 0; t < keys; ++t)
    for (int v = 0; v < COUNT * PARTS; ++v) {
      const Floats value =
          load<Floats>(values + v / PARTS * run + t * BLOCK + v % PARTS * LANES);
      for (int h = 0; h < HEADS; ++h)
        sums[h][v] += value * q.weights[size_t(h) * shape.slot_tokens + t];
    }
  for (int h = 0; h < HEADS; ++h)
    for (int v = 0; v < COUNT * PARTS; ++v)
      store(q.mixed + h * shape.head_stride + block * BLOCK + v * LANES,
            sums[h][v] * inverses[h]);
}

template <int HEADS>
void attend_heads(const TabwiseShape& shape, const HeadCache& cache, const Queries& q,
                  int keys) {
  constexpr int COUNT = blocks_at_once(HEADS);
  score<HEADS>(shape, cache, q, keys);
  float inverses[HEADS];
  for (int h = 0; h < HEADS; ++h)
    inverses[h] = soften(q.weights + size_t(h) * shape.slot_tokens, keys);
  const int blocks = shape.head_stride / BLOCK;
  int block = 0;
  for (; block + COUNT <= blocks; block += COUNT)
    mix_blocks<HEADS, COUNT>(shape, cache, q, block, keys, inverses);
  for (; block < blocks; ++block)
    mix_blocks<HEADS, 1>(shape, cache, q, block, keys, inverses);
}

// All `heads` query heads of one key head, GROUP at a time.
void attend(const TabwiseShape& shape, const HeadCache& cache, Queries q, int heads,
            int keys) {
  while (heads > 0) {
    const int now = heads < GROUP ? heads : GROUP;
    switch (now) {
      case 1: attend_heads<1>(shape, cache, q, keys); break;
      case 2: attend_heads<2>(shape, cache, q, keys); break;
      case 3: attend_heads<3>(shape, cache, q, keys); break;
      default: attend_heads<GROUP>(shape, cache, q, keys); break;
    }
    q.heads += now * shape.head_stride;
    q.mixed += now * shape.head_stride;
    heads -= now;
  }
}

}  // namespace
