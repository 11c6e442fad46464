// Attention of one query row over the keys 0..position of its slot, for query heads that
// share a key head. Both products are the INT8 ones of linear.h: queries by keys, and
// softmax weights, in two 7-bit digits each, by values. Integers add up to the same
// whatever the order, and what remains in float32 depends on the position alone.
//
// PAIRWISE paths multiply few values by whole weights instead: shorts.h.
#pragma once

#include "linear.h"
#ifdef PAIRWISE
#include "shorts.h"
#endif

namespace {

constexpr float LARGEST_WEIGHT = 127 * 128 + 127;

// The cached keys as a matrix (tokens, channels), and the values as (channels, tokens).
inline Matrix keys_matrix(const TabwiseShape& shape, const HeadCache& cache) {
  return {shape.slot_tokens, shape.head_stride, cache.keys, cache.key_scales,
          cache.corrections};
}

inline Matrix values_matrix(const TabwiseShape& shape, const HeadCache& cache) {
  return {shape.head_stride, shape.slot_tokens, cache.values, nullptr, nullptr};
}

// Puts one head's key and value into its cache, quantised. `bytes`: (head_stride).
inline void remember(const TabwiseShape& shape, const HeadCache& cache, int position,
                     const float* key, const float* value, int8_t* bytes) {
  const int block = position / BLOCK, lane = position % BLOCK;
  quantize(key, shape.head_stride, {bytes, cache.key_scales + position}, 0);
  int8_t* keys = cache.keys + (size_t(block) * shape.head_stride * BLOCK + lane * 4);
  for (int d = 0; d < shape.head_stride; d += 4)
    memcpy(keys + d * BLOCK, bytes + d, 4);
  int32_t sum = 0;
  for (int d = 0; d < shape.head_stride; ++d) sum += bytes[d];
  cache.corrections[position] = -128 * sum;
  quantize(value, shape.head_stride, {bytes, cache.value_scales + position}, 0);
  int8_t* values = cache.values + (position / 4 * 4 * BLOCK + position % 4);
  for (int d = 0; d < shape.head_stride; ++d)
    values[size_t(d / BLOCK) * shape.slot_tokens * BLOCK + d % BLOCK * 4] = bytes[d];
}

// Scores become e^(score - largest), zeros after the last key; `padded` of them.
inline void soften(float* scores, int keys, int padded) {
  for (int t = keys; t < padded; ++t) scores[t] = scores[0];  // what lay there: no key
  Lanes top;
  for (int p = 0; p < PARTS; ++p) top.parts[p] = load<Floats>(scores + p * LANES);
  for (int t = BLOCK; t < padded; t += BLOCK)
    for (int p = 0; p < PARTS; ++p)
      top.parts[p] = larger(top.parts[p], load<Floats>(scores + t + p * LANES));
  const float largest = top.largest();
  for (int t = 0; t < padded; t += LANES)
    store(scores + t, exponential(load<Floats>(scores + t) - largest));
  for (int t = keys; t < padded; ++t) scores[t] = 0.0f;
}

// Weights as whole numbers: times `inverse`, to the nearest. unit: what one of these is
// worth after division by the weights' sum.
struct Whole {
  float inverse, unit;
};

// Each weight times its value's scale, in place.
inline Whole scale_weights(float* weights, const float* value_scales, int padded) {
  Lanes sums, top;
  for (int t = 0; t < padded; t += BLOCK)
    for (int p = 0; p < PARTS; ++p) {
      const int at = t + p * LANES;
      const Floats weight = load<Floats>(weights + at);
      const Floats scaled = weight * load<Floats>(value_scales + at);
      sums.parts[p] += weight;
      top.parts[p] = larger(top.parts[p], scaled);
      store(weights + at, scaled);
    }
  const float largest = top.largest();
  const float inverse = largest > 0 ? LARGEST_WEIGHT / largest : 0.0f;
  return {inverse, largest / LARGEST_WEIGHT / sums.sum()};
}

struct Unscaled {
  float* rows;
  size_t stride;

  void take(int row, int output, Ints sums) const {
    store(rows + row * stride + output, to_floats(sums));
  }
};

// Weights, (heads, slot_tokens) in work.scores, by the values of `keys` tokens.
void mix_digits(const TabwiseShape& shape, const HeadCache& cache, const Attended& work,
                const Whole* whole, float* mixed, int heads, int keys) {
  const int stride = shape.head_stride, depth = (keys + 3) / 4 * 4;
  const size_t tokens = shape.slot_tokens;
  for (int h = 0; h < heads; ++h) {
    int8_t* high = work.digits + 2 * h * tokens;
    int8_t* low = high + tokens;
    for (int t = 0; t < depth; t += LANES) {
      const Floats weights = load<Floats>(work.scores + h * tokens + t);
      const Ints digits = round_to_ints(weights * whole[h].inverse);
      store(high + t, to_bytes(digits >> 7));
      store(low + t, to_bytes(digits & 127));
    }
  }
  multiply(values_matrix(shape, cache), 0, stride / BLOCK,
           {work.digits, tokens, 0, 2 * heads, depth},
           Unscaled{work.sums, size_t(stride)});
  for (int h = 0; h < heads; ++h) {
    const float* high = work.sums + 2 * h * stride;
    for (int d = 0; d < stride; ++d)
      mixed[h * stride + d] = (high[d] * 128.0f + high[stride + d]) * whole[h].unit;
  }
}

#ifdef PAIRWISE
template <int HEADS>
inline void mix_shorts_of(const TabwiseShape& shape, const HeadCache& cache,
                          const int16_t* weights, const Whole* whole, float* mixed,
                          int depth) {
  const size_t tokens = shape.slot_tokens;
  for (int d = 0; d < shape.head_stride; d += BLOCK) {
    Floats products[HEADS][PARTS];
    multiply_shorts<HEADS>(cache.values + d * tokens, weights, tokens, depth, products);
    for (int h = 0; h < HEADS; ++h)
      for (int p = 0; p < PARTS; ++p)
        store(mixed + h * shape.head_stride + d + p * LANES,
              products[h][p] * whole[h].unit);
  }
}

// The same, to the last bit, of at most FEW_KEYS.
void mix_shorts(const TabwiseShape& shape, const HeadCache& cache, const Attended& work,
                const Whole* whole, float* mixed, int heads, int keys) {
  const int stride = shape.head_stride, depth = (keys + 3) / 4 * 4;
  const size_t tokens = shape.slot_tokens;
  int16_t* shorts = reinterpret_cast<int16_t*>(work.digits);
  for (int h = 0; h < heads; ++h)
    for (int t = 0; t < depth; t += LANES) {
      const Floats weights = load<Floats>(work.scores + h * tokens + t);
      store_shorts(shorts + h * tokens + t, round_to_ints(weights * whole[h].inverse));
    }
  int h = 0;
  for (; h + 2 <= heads; h += 2)
    mix_shorts_of<2>(shape, cache, shorts + h * tokens, whole + h, mixed + h * stride,
                     depth);
  if (h < heads)
    mix_shorts_of<1>(shape, cache, shorts + h * tokens, whole + h, mixed + h * stride,
                     depth);
}
#endif

// At most GROUP query heads, (heads, head_stride) in and out.
void attend_group(const TabwiseShape& shape, const HeadCache& cache,
                  const Attended& work, const float* queries, float* mixed, int heads,
                  int keys) {
  const int stride = shape.head_stride;
  const size_t tokens = shape.slot_tokens;
  const int padded = (keys + BLOCK - 1) / BLOCK * BLOCK;
  const float by = 1.0f / __builtin_sqrtf(float(shape.head_size));
  for (int h = 0; h < heads; ++h) {
    quantize(queries + h * stride, stride, {work.queries + h * stride, work.scales + h});
    work.scales[h] *= by;
  }
  multiply(keys_matrix(shape, cache), 0, padded / BLOCK,
           {work.queries, size_t(stride), 0, heads, stride},
           Scaled{work.scales, cache.key_scales, work.scores, tokens, false});
  Whole whole[GROUP];
  for (int h = 0; h < heads; ++h) {
    float* scores = work.scores + h * tokens;
    soften(scores, keys, padded);
    whole[h] = scale_weights(scores, cache.value_scales, padded);
  }
#ifdef PAIRWISE
  if (padded <= FEW_KEYS)
    return mix_shorts(shape, cache, work, whole, mixed, heads, keys);
#endif
  mix_digits(shape, cache, work, whole, mixed, heads, keys);
}

void attend(const TabwiseShape& shape, const HeadCache& cache, const Attended& work,
            const float* queries, float* mixed, int heads, int keys) {
  for (int h = 0; h < heads; h += GROUP) {
    const int at = h * shape.head_stride, now = heads - h < GROUP ? heads - h : GROUP;
    attend_group(shape, cache, work, queries + at, mixed + at, now, keys);
  }
}

}  // namespace
