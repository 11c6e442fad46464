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
constexpr int LEAST_GROUP = 32;   // inputs of an INT4 matrix that share a step, at least
constexpr int NIBBLE_OFFSET = 8;  // a nibble is an INT4 weight plus this

// INT8 (outputs, inputs) with one scale an output. Weights lie as
// [outputs / 16][inputs / 4][16][4]: one 64-byte load gives 16 outputs 4 inputs each.
//
// INT4: what would be INT8 is (nibble - 8) x the step of the output's group of inputs.
// Nibbles lie as [outputs / 16][inputs / 8][16][4], the first four inputs of eight in the
// low halves of bytes, the other four in the high ones; steps as [outputs / 16]
// [groups / 4 rounded up][16][4].
struct Matrix {
  int outputs = 0;
  int inputs = 0;
  int8_t* weights = nullptr;
  float* scales = nullptr;
  int32_t* corrections = nullptr;  // -128 x the row's sum: paths with u8 inputs start so
  uint16_t* bounds = nullptr;      // [outputs / 16][inputs / 8], if INT8: see pack
  int group = 0;                   // inputs that share a step; 0: INT8
  uint8_t* steps = nullptr;

  int blocks() const { return outputs / BLOCK; }
  int groups() const { return inputs / group; }
  int steps_a_row() const { return (groups() + 3) / 4 * 4; }
};

struct Layer {
  Matrix qkv, attention_out, gate_up, down;
  float* attention_norm = nullptr;
  float* mlp_norm = nullptr;
};

// One slot's keys and values of one layer and head, INT8 with a scale a token, in the
// layout of a matrix: scoring multiplies by (tokens, channels), mixing by (channels,
// tokens).
struct HeadCache {
  int8_t* keys;            // [token / 16][head_stride / 4][16][4]
  float* key_scales;       // (slot_tokens)
  int32_t* corrections;    // (slot_tokens): of the keys, as a matrix has them
  int8_t* values;          // [head_stride / 16][token / 4][16][4]
  float* value_scales;     // (slot_tokens)
};

// What one thread needs while it attends: GROUP rows of each, and two rows of digits.
struct Attended {
  int8_t* queries;   // (GROUP, head_stride)
  float* scales;     // (GROUP)
  float* scores;     // (GROUP, slot_tokens)
  int8_t* digits;    // (2 * GROUP, slot_tokens)
  float* sums;       // (2 * GROUP, head_stride)
};

// What a pass over at most STEP_ROWS rows writes.
struct Scratch {
  float* x;         // (rows, width): the residual stream
  float* wide;      // (rows, widest matrix): q, k, v, or gate and up
  float* mixed;     // (rows, heads * head_stride): attention's result
  int8_t* inputs;   // (rows, widest input): a matrix' quantised inputs
  float* scales;    // (rows): their scales
  int8_t* magnitudes;   // (rows, widest input): these four see pairs.h
  int8_t* signs;        // (rows, widest input)
  uint8_t* tops;        // (rows, widest input / 8)
  int32_t* negative;    // (rows)
  int32_t* group_starts;  // (rows, most groups): what INT4 sums begin with
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
  size_t cache_bytes() const;
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
  std::vector<Attended> attended;  // one a thread

 private:
  void place_weights();
  void place_scratch();
};

void pack(Matrix& matrix, const int8_t* rows, const float* scales);
void pack_int4(Matrix& matrix, const uint8_t* nibbles, const uint8_t* steps,
               const float* scales);
void copy_slot(const TabwiseModel& other, int source, TabwiseModel& model, int target,
               int tokens, int start);
