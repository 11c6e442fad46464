// The weights, the KV cache and the scratch memory of one model.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <vector>

#include "memory.h"
#include "pool.h"
#include "tabwise.h"

constexpr int BLOCK = 16;       // outputs, channels and tokens go in sixteens
constexpr int STEP_ROWS = 128;  // rows computed together: their scratch stays in cache
constexpr int GROUP = 4;        // query heads that share one walk over the keys

// INT8 (outputs, inputs) with one scale an output. Weights lie as
// [outputs / 16][inputs / 4][16][4]: one 64-byte load gives 16 outputs 4 inputs each.
struct Matrix {
  int outputs = 0;
  int inputs = 0;
  int8_t* weights = nullptr;
  float* scales = nullptr;
  int32_t* corrections = nullptr;  // -128 x the row's sum: paths with u8 inputs start so

  int blocks() const { return outputs / BLOCK; }
};

struct Layer {
  Matrix qkv, attention_out, gate_up, down;
  float* attention_norm = nullptr;
  float* mlp_norm = nullptr;
};

// One slot's keys and values of one layer and head.
struct HeadCache {
  float* keys;    // [token / 16][head_size][16 tokens]: a dot product has no reduction
  float* values;  // [head_stride / 16][token][16 channels]
};

// What a pass over at most STEP_ROWS rows writes.
struct Scratch {
  float* x;         // (rows, width): the residual stream
  float* wide;      // (rows, widest matrix): q, k, v, or gate and up
  float* mixed;     // (rows, heads * head_stride): attention's result
  int8_t* inputs;   // (rows, widest input): a matrix' quantised inputs
  float* scales;    // (rows): their scales
  float* attended;  // (threads, GROUP, slot_tokens): scores, then weights
};

struct Batch {
  int rows;
  const int32_t* tokens;
  const int32_t* slots;
  const int32_t* positions;
  int wanted;
  const int32_t* wanted_rows;
  float* logits;
};

using StepFunction = void (*)(TabwiseModel&, const Batch&);

struct TabwiseModel {
  TabwiseModel(const TabwiseShape& shape, StepFunction step, int threads);

  HeadCache cache(int slot, int layer, int kv_head) const;
  Matrix* matrix(int layer, int tensor);
  float* floats(int layer, int tensor, size_t* count);

  const TabwiseShape shape;
  const StepFunction step;
  Pool pool;
  Memory weights, kv, work;
  std::vector<Layer> layers;
  Matrix embed;
  float* norm = nullptr;
  float* rope = nullptr;
  Scratch scratch = {};

 private:
  void place_weights();
  void place_scratch();
};

void pack(Matrix& matrix, const int8_t* rows, const float* scales);
void copy_slot(TabwiseModel& model, int source, int target, int tokens);
