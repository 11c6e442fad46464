#include "model.h"

#include <stdlib.h>
#include <string.h>

#include <algorithm>

TabwiseModel::TabwiseModel(const TabwiseShape& shape_, StepFunction step_, int threads)
    : shape(shape_),
      step(step_),
      pool(threads - 1),
      layers(shape_.layers),
      attended(pool.threads()) {
  weights.lay_out([this] { place_weights(); }, true);
  work.lay_out([this] { place_scratch(); }, false);
  const size_t heads = size_t(shape.slots) * shape.layers * shape.kv_heads;
  kv.lay_out([&] { kv.take<char>(heads * cache_bytes()); }, true);
}

static void place(Memory& memory, Matrix& matrix, int outputs, int inputs, int group) {
  const size_t weights = size_t(outputs) * inputs;
  matrix.outputs = outputs;
  matrix.inputs = inputs;
  matrix.group = group;
  matrix.weights = memory.take<int8_t>(group ? weights / 2 : weights);
  if (!group) matrix.bounds = memory.take<uint16_t>(weights / BLOCK / 8);
  if (group)
    matrix.steps = memory.take<uint8_t>(size_t(outputs) * matrix.steps_a_row());
  matrix.scales = memory.take<float>(outputs);
  matrix.corrections = memory.take<int32_t>(outputs);
}

void TabwiseModel::place_weights() {
  const int q = shape.heads * shape.head_stride;
  const int kv_width = shape.kv_heads * shape.head_stride;
  const int group = shape.group;
  for (Layer& layer : layers) {
    place(weights, layer.qkv, q + 2 * kv_width, shape.width, group);
    place(weights, layer.attention_out, shape.width, q, group);
    place(weights, layer.gate_up, 2 * shape.hidden, shape.width, group);
    place(weights, layer.down, shape.width, shape.hidden, group);
    layer.attention_norm = weights.take<float>(shape.width);
    layer.mlp_norm = weights.take<float>(shape.width);
  }
  place(weights, embed, shape.vocab, shape.width, shape.embed_group);
  norm = weights.take<float>(shape.width);
  rope = weights.take<float>(size_t(shape.slot_tokens) * shape.head_size);
}

void TabwiseModel::place_scratch() {
  const int q = shape.heads * shape.head_stride;
  const int kv_width = shape.kv_heads * shape.head_stride;
  const size_t rows = STEP_ROWS, widest = std::max({shape.width, shape.hidden, q});
  scratch.x = work.take<float>(rows * shape.width);
  scratch.wide = work.take<float>(rows * std::max(q + 2 * kv_width, 2 * shape.hidden));
  scratch.mixed = work.take<float>(rows * q);
  scratch.inputs = work.take<int8_t>(rows * widest);
  scratch.scales = work.take<float>(rows);
  scratch.magnitudes = work.take<int8_t>(rows * widest);
  scratch.signs = work.take<int8_t>(rows * widest);
  scratch.tops = work.take<uint8_t>(rows * widest / 8);
  scratch.negative = work.take<int32_t>(rows);
  scratch.group_starts = work.take<int32_t>(rows * widest / LEAST_GROUP);
  for (Attended& one : attended) {
    one.queries = work.take<int8_t>(GROUP * shape.head_stride);
    one.scales = work.take<float>(GROUP);
    one.scores = work.take<float>(size_t(GROUP) * shape.slot_tokens);
    one.digits = work.take<int8_t>(size_t(2 * GROUP) * shape.slot_tokens);
    one.sums = work.take<float>(2 * GROUP * shape.head_stride);
  }
}

size_t TabwiseModel::cache_bytes() const {
  const size_t a_token = 2 * shape.head_stride + 2 * sizeof(float) + sizeof(int32_t);
  return a_token * shape.slot_tokens;
}

HeadCache TabwiseModel::cache(int slot, int layer, int kv_head) const {
  const size_t tokens = shape.slot_tokens, half = tokens * shape.head_stride;
  const size_t head = (size_t(slot) * shape.layers + layer) * shape.kv_heads + kv_head;
  int8_t* keys = kv.start<int8_t>() + head * cache_bytes();
  float* scales = reinterpret_cast<float*>(keys + 2 * half);
  return {keys, scales, reinterpret_cast<int32_t*>(scales + tokens), keys + half,
          scales + 2 * tokens};
}

Matrix* TabwiseModel::matrix(int layer, int tensor) {
  switch (tensor) {
    case TABWISE_QKV: return &layers[layer].qkv;
    case TABWISE_ATTENTION_OUT: return &layers[layer].attention_out;
    case TABWISE_GATE_UP: return &layers[layer].gate_up;
    case TABWISE_DOWN: return &layers[layer].down;
    case TABWISE_EMBED: return &embed;
    default: return nullptr;
  }
}

float* TabwiseModel::floats(int layer, int tensor, size_t* count) {
  *count = shape.width;
  switch (tensor) {
    case TABWISE_ATTENTION_NORM: return layers[layer].attention_norm;
    case TABWISE_MLP_NORM: return layers[layer].mlp_norm;
    case TABWISE_NORM: return norm;
    case TABWISE_ROPE:
      *count = size_t(shape.slot_tokens) * shape.head_size;
      return rope;
    default: return nullptr;
  }
}

// pairs.h adds up in 16 bits what eight inputs give: the first two of both fours, and the
// last two. A bound is the largest sum of their |w| + 1 among a block's outputs.
static void bound_pairs(Matrix& matrix, const int8_t* rows) {
  const int octets = matrix.inputs / 8;
  for (int n = 0; n < matrix.outputs; ++n)
    for (int o = 0; o < octets; ++o) {
      int sums[2] = {4, 4};
      for (int i = 0; i < 8; ++i)
        sums[i % 4 / 2] += abs(rows[size_t(n) * matrix.inputs + o * 8 + i]);
      uint16_t& bound = matrix.bounds[size_t(n / BLOCK) * octets + o];
      bound = uint16_t(std::max({int(bound), sums[0], sums[1]}));
    }
}

void pack(Matrix& matrix, const int8_t* rows, const float* scales) {
  const int depth = matrix.inputs / 4;
  bound_pairs(matrix, rows);
  for (int n = 0; n < matrix.outputs; ++n) {
    const int8_t* row = rows + size_t(n) * matrix.inputs;
    int8_t* block = matrix.weights + size_t(n / BLOCK) * matrix.inputs * BLOCK;
    int32_t sum = 0;
    for (int k = 0; k < matrix.inputs; ++k) sum += row[k];
    for (int k = 0; k < depth; ++k)
      memcpy(block + (k * BLOCK + n % BLOCK) * 4, row + 4 * k, 4);
    matrix.scales[n] = scales[n];
    matrix.corrections[n] = -128 * sum;
  }
}

static int nibble_of(const uint8_t* row, int k) { return row[k / 2] >> k % 2 * 4 & 15; }

void pack_int4(Matrix& matrix, const uint8_t* nibbles, const uint8_t* steps,
               const float* scales) {
  const int inputs = matrix.inputs, groups = matrix.groups();
  for (int n = 0; n < matrix.outputs; ++n) {
    const uint8_t* row = nibbles + size_t(n) * inputs / 2;
    const uint8_t* row_steps = steps + size_t(n) * groups;
    int8_t* block = matrix.weights + size_t(n / BLOCK) * inputs / 2 * BLOCK;
    int32_t sum = 0;
    for (int k = 0; k < inputs; ++k) {
      sum += (nibble_of(row, k) - NIBBLE_OFFSET) * row_steps[k / matrix.group];
      int8_t& byte = block[(k / 8 * BLOCK + n % BLOCK) * 4 + k % 4];
      byte = int8_t(byte | nibble_of(row, k) << k / 4 % 2 * 4);
    }
    uint8_t* block_steps =
        matrix.steps + size_t(n / BLOCK) * matrix.steps_a_row() * BLOCK;
    for (int g = 0; g < groups; ++g)
      block_steps[(g / 4 * BLOCK + n % BLOCK) * 4 + g % 4] = row_steps[g];
    matrix.scales[n] = scales[n];
    matrix.corrections[n] = -128 * sum;
  }
}

// Whole blocks of 16 tokens are copied: what the last holds beyond `tokens` is not
// valid in the target.
void copy_slot(const TabwiseModel& other, int source, TabwiseModel& model, int target,
               int tokens, int start) {
  const TabwiseShape& shape = model.shape;
  const size_t first = size_t(start) / BLOCK * BLOCK;
  const size_t count = size_t(tokens + BLOCK - 1) / BLOCK * BLOCK - first;
  const size_t run = size_t(shape.slot_tokens) * BLOCK;  // 16 channels of values
  for (int layer = 0; layer < shape.layers; ++layer) {
    for (int head = 0; head < shape.kv_heads; ++head) {
      const HeadCache from = other.cache(source, layer, head);
      const HeadCache to = model.cache(target, layer, head);
      const size_t keys = first * shape.head_stride;
      memcpy(to.keys + keys, from.keys + keys, count * shape.head_stride);
      memcpy(to.key_scales + first, from.key_scales + first, count * sizeof(float));
      memcpy(to.corrections + first, from.corrections + first, count * sizeof(int32_t));
      memcpy(to.value_scales + first, from.value_scales + first, count * sizeof(float));
      for (int part = 0; part < shape.head_stride / BLOCK; ++part) {
        const size_t values = part * run + first * BLOCK;
        memcpy(to.values + values, from.values + values, count * BLOCK);
      }
    }
  }
}
