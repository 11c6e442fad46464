#include "model.h"

#include <string.h>

#include <algorithm>

TabwiseModel::TabwiseModel(const TabwiseShape& shape_, StepFunction step_, int threads)
    : shape(shape_), step(step_), pool(threads - 1), layers(shape_.layers) {
  weights.lay_out([this] { place_weights(); }, true);
  work.lay_out([this] { place_scratch(); }, false);
  const size_t a_head = size_t(shape.head_size + shape.head_stride) * shape.slot_tokens;
  const size_t heads = size_t(shape.slots) * shape.layers * shape.kv_heads;
  kv.lay_out([&] { kv.take<float>(heads * a_head); }, false);
}

static void place(Memory& memory, Matrix& matrix, int outputs, int inputs) {
  matrix.outputs = outputs;
  matrix.inputs = inputs;
  matrix.weights = memory.take<int8_t>(size_t(outputs) * inputs);
  matrix.scales = memory.take<float>(outputs);
  matrix.corrections = memory.take<int32_t>(outputs);
}

void TabwiseModel::place_weights() {
  const int q = shape.heads * shape.head_stride;
  const int kv_width = shape.kv_heads * shape.head_stride;
  for (Layer& layer : layers) {
    place(weights, layer.qkv, q + 2 * kv_width, shape.width);
    place(weights, layer.attention_out, shape.width, q);
    place(weights, layer.gate_up, 2 * shape.hidden, shape.width);
    place(weights, layer.down, shape.width, shape.hidden);
    layer.attention_norm = weights.take<float>(shape.width);
    layer.mlp_norm = weights.take<float>(shape.width);
  }
  place(weights, embed, shape.vocab, shape.width);
  norm = weights.take<float>(shape.width);
  rope = weights.take<float>(size_t(shape.slot_tokens) * shape.head_size);
}

void TabwiseModel::place_scratch() {
  const int q = shape.heads * shape.head_stride;
  const int kv_width = shape.kv_heads * shape.head_stride;
  const size_t rows = STEP_ROWS;
  scratch.x = work.take<float>(rows * shape.width);
  scratch.wide = work.take<float>(rows * std::max(q + 2 * kv_width, 2 * shape.hidden));
  scratch.mixed = work.take<float>(rows * q);
  scratch.inputs = work.take<int8_t>(rows * std::max({shape.width, shape.hidden, q}));
  scratch.scales = work.take<float>(rows);
  const size_t threads = pool.threads();
  scratch.attended = work.take<float>(threads * GROUP * shape.slot_tokens);
}

HeadCache TabwiseModel::cache(int slot, int layer, int kv_head) const {
  const size_t keys = size_t(shape.head_size) * shape.slot_tokens;
  const size_t values = size_t(shape.head_stride) * shape.slot_tokens;
  const size_t head = (size_t(slot) * shape.layers + layer) * shape.kv_heads + kv_head;
  float* start = kv.start<float>() + head * (keys + values);
  return {start, start + keys};
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

void pack(Matrix& matrix, const int8_t* rows, const float* scales) {
  const int depth = matrix.inputs / 4;
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

// Keys lie in blocks of 16 tokens: the last is copied whole, and what it holds beyond
// `tokens` is not valid in the target.
void copy_slot(TabwiseModel& model, int source, int target, int tokens) {
  const TabwiseShape& shape = model.shape;
  const size_t blocks = (tokens + BLOCK - 1) / BLOCK;
  const size_t run = size_t(shape.slot_tokens) * BLOCK;  // one 16-channel run of values
  for (int layer = 0; layer < shape.layers; ++layer) {
    for (int head = 0; head < shape.kv_heads; ++head) {
      const HeadCache from = model.cache(source, layer, head);
      const HeadCache to = model.cache(target, layer, head);
      memcpy(to.keys, from.keys, blocks * BLOCK * shape.head_size * sizeof(float));
      for (int part = 0; part < shape.head_stride / BLOCK; ++part)
        memcpy(to.values + part * run, from.values + part * run,
               size_t(tokens) * BLOCK * sizeof(float));
    }
  }
}
